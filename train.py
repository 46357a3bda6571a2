"""Trains a model: ``python train.py --config=configs/NAME.py --workdir=DIR [--config.SECTION.KEY=VALUE ...]``.

Run again on the same DIR, it continues where it stopped. Exit status: 0 done, 1 training failed,
2 something in the command, the config or the data has to change, 143 stopped by SIGTERM (saved).
"""

import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from configs import base
from hfsgm_jax import processes
from hfsgm_jax.config import check_keys, flatten

_CONFIG = config_flags.DEFINE_config_file("config", None, "file of the configuration, e.g. configs/base.py")
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run; an existing run continues")
processes.define_flags()
flags.mark_flags_as_required(["config", "workdir"])


def _parse_flags(argv: list[str]) -> list[str]:
    """Flags, with unknown config keys named before ml_collections fails on them."""
    names = [arg.partition("=")[2] for arg in argv[1:] if arg.startswith(("--config=", "-config="))]
    for name in names:
        if not Path(name.split(":")[0]).is_file():  # "file.py:argument"
            _fail(f"--config={name}: there is no such file", 2)
    overrides = [arg.lstrip("-").split("=")[0] for arg in argv[1:] if arg.lstrip("-").startswith("config.")]
    known = flatten(base.get_config())
    try:
        check_keys([name.removeprefix("config.") for name in overrides], known)
        argv = flags.FLAGS(argv)
        check_keys(flatten(_CONFIG.value), known)
    except flags.Error as error:
        _fail(f"{error}\nusage: {__doc__.splitlines()[0]}", 2)
    except ValueError as error:
        _fail(error, 2)
    return argv


def _fail(message: object, status: int) -> None:
    print(f"train.py: {message}", file=sys.stderr)
    processes.leave(status)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        _fail(f"unexpected arguments {argv[1:]}; flags start with --", 2)
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # Orbax tells every save in dozens of lines
    # Imported late: flags are checked before JAX starts.
    from hfsgm_jax.config import ConfigError
    from hfsgm_jax.data import DataError
    from hfsgm_jax.training import CheckpointError, NonFiniteError, StorageError, train

    try:
        processes.start(*processes.flag_values())
        with processes.together(ConfigError, DataError, CheckpointError, NonFiniteError):
            summary = train(_CONFIG.value, _WORKDIR.value)
    except (ConfigError, DataError, CheckpointError) as error:
        _fail(error, 2)
    except (NonFiniteError, StorageError) as error:
        _fail(error, 1)
    if summary.ended_by == "signal":
        sys.exit(143)


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_flags)
