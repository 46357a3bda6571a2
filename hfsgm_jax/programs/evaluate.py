"""Evaluates trained runs.

  python evaluate.py --workdir=runs/x --tasks=likelihood,sample
  python evaluate.py --workdir=runs/x --tasks=all --eval.set_size=10 --data.data_dir=/data/tfds
  python evaluate.py --workdir=runs/x,runs/y --tasks=report --out=comparison.html

Results go to WORKDIR/eval/; the task `report` writes WORKDIR/report.html of all that is there, or one page about
several runs side by side. --eval.KEY=VALUE changes a key of the config's section eval. Exit status: 0, 1 if a task
failed or was refused, 2 if something must be changed before any can begin.
"""

import ast
import contextlib
import io
import sys
from typing import Any

from absl import app, flags, logging

from hfsgm_jax import processes
from hfsgm_jax.config import KEYS
from hfsgm_jax.errors import ConfigError, UserError
from hfsgm_jax.programs import asks_for_help, show_help

_WORKDIR = flags.DEFINE_list("workdir", None, "Folder of a run, as train.py writes it; with --tasks=report, of several")
_TASKS = flags.DEFINE_string("tasks", "likelihood,sample", "Comma-separated tasks, or all.")
_OUT = flags.DEFINE_string("out", None, "Page of --tasks=report about several runs; default: compare.html in the first")
processes.define_flags()
flags.adopt_module_key_flags(processes)
_OVERRIDES = {}


def _parse_flags(argv: list[str]) -> list[str]:
    """Flags; those of the config's sections, ``--eval.KEY=VALUE``, go into `_OVERRIDES`."""
    if asks_for_help(argv):
        show_help(__doc__, __name__)
    try:
        is_key = lambda arg: arg.startswith("-") and "." in arg.partition("=")[0]
        _OVERRIDES.update(_override(arg.lstrip("-")) for arg in argv if is_key(arg))
        argv = flags.FLAGS([arg for arg in argv if not is_key(arg)])
        if argv[1:]:
            raise ConfigError(f"unknown argument {argv[1]!r}; options look like --tasks=likelihood")
        if not _WORKDIR.value:
            raise ConfigError("--workdir=DIR, the folder of a run, is needed")
        return argv
    except (flags.Error, UserError) as error:
        processes.fail("evaluate.py", error)


def _override(text: str) -> tuple[str, Any]:
    """``"eval.shots=1,5"`` -> ``("eval.shots", (1, 5))``."""
    name, is_set, value = text.partition("=")
    if not is_set:
        raise ConfigError(f"--{text} needs a value: --{text}=VALUE")
    if name in KEYS and KEYS[name].kind.type is tuple:
        return name, tuple(_literal(part) for part in value.strip("()[] ").split(",") if part)
    return name, _literal(value)


def _literal(text: str) -> Any:
    with contextlib.suppress(ValueError, SyntaxError):
        return ast.literal_eval(text.strip())
    return text.strip()


def main(argv: list[str]) -> None:
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    try:
        with processes.together(UserError):
            status = _compare() if len(_WORKDIR.value) > 1 or _OUT.value else _evaluate()
    except UserError as error:
        processes.fail("evaluate.py", error)
    sys.exit(status)


def _compare() -> int:
    from hfsgm_jax.evaluation.report import compare

    if _TASKS.value != "report" or _OVERRIDES:
        raise ConfigError("several runs, and --out, go with --tasks=report alone: evaluate each run before")
    page, tables = compare(_WORKDIR.value, _OUT.value)
    print(f"{tables}\n\n  -> {page}")
    return 0


def _evaluate() -> int:
    # Imported late: flags are checked before JAX starts.
    from hfsgm_jax.evaluation.base import Evaluation
    from hfsgm_jax.evaluation.run import choose, run_tasks

    choose(_TASKS.value)
    processes.start(*processes.flag_values())
    run = Evaluation.open(_WORKDIR.value[0], _OVERRIDES)
    with contextlib.redirect_stdout(sys.stdout if processes.is_writer() else io.StringIO()):
        results, problems = run_tasks(run, _TASKS.value)
    only_refused = not results and all(isinstance(problem, UserError) for problem in problems.values())
    return 0 if not problems else 2 if only_refused else 1


def run() -> None:
    app.run(main, flags_parser=_parse_flags)
