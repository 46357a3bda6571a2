"""Trains a model: ``python train.py --config=configs/NAME.py --workdir=DIR [--config.SECTION.KEY=VALUE ...]``.

Run again on the same DIR, it continues where it stopped. Exit status: 0 done, 1 training failed,
2 something in the command, the config or the data has to change, 143 stopped by SIGTERM (saved).
"""

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from hfsgm_jax import processes
from hfsgm_jax.config import set_overrides
from hfsgm_jax.errors import ConfigError, UserError
from hfsgm_jax.programs import make_parser, parse
from hfsgm_jax.training import NonFiniteError, StorageError, setup, train
from hfsgm_jax.training.setup import dry_run

HELP = """file with a function get_config() -> ConfigDict, e.g. configs/quickstart.py; FILE:TEXT calls get_config(TEXT);
a keyword of it that is named like a key (data_path) gets that key's value (--config.data.path)"""


def load_config_file(name: str, given: Mapping[str, str]) -> ConfigDict:
    """The config of ``FILE`` or ``FILE:TEXT`` with the values ``given`` for its keys.

    ``get_config`` gets those that it has keywords for.

    Raises:
      ConfigError: no such file, an error in it, with its line, or a key or a value that the config does not take.
    """
    path, *argument = name.split(":", 1)
    spec = importlib.util.spec_from_file_location("config_file", path)
    if not Path(path).is_file() or spec is None:
        raise ConfigError(f"--config={name}: {path} is not a Python file (.py) that exists")
    module = importlib.util.module_from_spec(spec)
    named = {key.replace(".", "_"): value for key, value in given.items()}
    try:
        spec.loader.exec_module(module)
        keywords = inspect.signature(module.get_config).parameters.keys() & named.keys()
        config = module.get_config(*argument, **{key: named[key] for key in keywords})
    except UserError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename) == Path(path).absolute()]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else 1)  # of a syntax error, or of what failed
        raise ConfigError(f"--config={name}: {path}, line {line}: {type(error).__name__}: {error}") from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"--config={name}: get_config() returned {config!r}, not an ml_collections.ConfigDict")
    return set_overrides(config, given)


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser("train.py", __doc__)
    parser.add_argument("--config", metavar="FILE", required=True, help=HELP)
    parser.add_argument("--workdir", metavar="DIR", required=True, help="folder of the run; an existing run continues")
    parser.add_argument("--dry_run", action="store_true", help="only say what every process would do, and the memory")
    options, given = parse(parser, argv, "config.")
    try:
        config = load_config_file(options.config, given)
        processes.start(options.coordinator, options.num_processes, options.process_id)
        if options.dry_run:
            with processes.together(UserError):
                print(dry_run(setup(config)), flush=True)
            return
        summary = train(config, options.workdir)
    except UserError as error:
        processes.leave(2, f"train.py: {error}")
    except (NonFiniteError, StorageError) as error:
        processes.leave(1, f"train.py: {error}")
    if summary.ended_by == "signal":
        sys.exit(143)
