"""Trains a model: ``python train.py --config=configs/NAME.py --workdir=DIR [--config.SECTION.KEY=VALUE ...]``.

Run again on the same DIR, it continues where it stopped. Exit status: 0 done, 1 training failed,
2 something in the command, the config or the data has to change, 143 stopped by SIGTERM (saved).
"""

import argparse
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from hfsgm_jax import processes
from hfsgm_jax.config import default_config, flatten, nearest_key
from hfsgm_jax.errors import ConfigError, UserError
from hfsgm_jax.programs import asks_for_help, show_help
from hfsgm_jax.training import NonFiniteError, StorageError, setup, train
from hfsgm_jax.training.dry_run import dry_run

HELP = """file with a function get_config() -> ConfigDict, e.g. configs/quickstart.py; FILE:TEXT calls get_config(TEXT);
a keyword of it that is named like a key (data_path) gets that key's value (--config.data.path)"""
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run; an existing run continues")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "only say what every process would do, and the memory that it needs")
processes.define_flags()
flags.adopt_module_key_flags(processes)
flags.mark_flag_as_required("workdir")


def load_config_file(name: str, given: Mapping[str, str] | None = None) -> ConfigDict:
    """The config of ``FILE`` or ``FILE:TEXT``.

    Args:
      given: values of the command line, ``config.SECTION.KEY``: get_config gets those that it has keywords for.

    Raises:
      ConfigError: no such file, or an error in it, with file and line.
    """
    path, *argument = name.split(":", 1)
    spec = importlib.util.spec_from_file_location("config_file", path)
    if not Path(path).is_file() or spec is None:
        raise ConfigError(f"--config={name}: {path} is not a Python file (.py) that exists")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise ConfigError(f"--config={name}: {path} has no function get_config()")
        named = {key.removeprefix("config.").replace(".", "_"): value for key, value in (given or {}).items()}
        keywords = inspect.signature(module.get_config).parameters.keys() & named.keys()
        config = module.get_config(*argument, **{key: named[key] for key in keywords})
    except UserError:
        raise
    except Exception as error:
        lines = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename) == Path(path).absolute()
        ]
        where = f"{path}, line {lines[-1].lineno}" if lines else path
        if isinstance(error, SyntaxError):
            where = f"{error.filename}, line {error.lineno}"
        raise ConfigError(f"--config={name}: {where}: {type(error).__name__}: {error}") from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(
            f"--config={name}: get_config() of {path} returned {config!r}, not an ml_collections.ConfigDict"
        )
    return config


def _parse_flags(argv: list[str]) -> list[str]:
    """Flags; the config is read first, for what its keys are."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", "-config")
    found, rest = parser.parse_known_args(argv[1:])
    rest = [argv[0], *rest]
    try:
        if found.config and not asks_for_help(argv):
            given = _overrides(rest)
            config = load_config_file(found.config, given)
            _check_overrides(given, config)
            config_flags.DEFINE_config_dict("config", config, HELP, sys_argv=rest)
        else:
            flags.DEFINE_string("config", None, HELP, required=True)
            if asks_for_help(argv):
                show_help(__doc__, __name__)
        return flags.FLAGS(rest)
    except flags.Error as error:
        processes.fail("train.py", f"{error}\nusage: {__doc__.splitlines()[0]}", 2)
    except UserError as error:
        processes.fail("train.py", error, 2)


def _overrides(argv: list[str]) -> dict[str, str]:
    """``config.SECTION.KEY`` -> its value, of ``--KEY=VALUE`` and ``--KEY VALUE``."""
    given = {}
    for arg, after in zip(argv, [*argv[1:], ""]):
        key, equals, value = arg.lstrip("-").partition("=")
        if arg.startswith("-") and key.startswith("config."):
            given[key] = value if equals else after
    return given


def _check_overrides(given: Mapping[str, str], config: ConfigDict) -> None:
    """Names unknown keys before ml_collections fails on them; with another model come the keys of that one."""
    name = given.get("config.model.name", config.model.name)
    if name != config.model.name:
        config.model = default_config(name).model
    known = flatten(config)
    for key in (key.removeprefix("config.") for key in given):
        if key not in known:
            near = nearest_key(key, known)
            raise ConfigError(f"there is no --config.{key}" + (f"; did you mean --config.{near}?" if near else ""))


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        processes.fail("train.py", f"unexpected arguments {argv[1:]}; flags start with --", 2)
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # Orbax tells every save in dozens of lines
    try:
        processes.start(*processes.flag_values())
        if _DRY_RUN.value:
            with processes.together(UserError):
                print(dry_run(setup(flags.FLAGS["config"].value)), flush=True)
            return
        summary = train(flags.FLAGS["config"].value, _WORKDIR.value)
    except UserError as error:
        processes.fail("train.py", error, 2)
    except (NonFiniteError, StorageError) as error:
        processes.fail("train.py", error, 1)
    if summary.ended_by == "signal":
        sys.exit(143)


def run() -> None:
    app.run(main, flags_parser=_parse_flags)
