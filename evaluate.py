"""Evaluates a trained run.

  python evaluate.py --workdir=runs/x --tasks=likelihood,sample
  python evaluate.py --workdir=runs/x --tasks=all --eval.set_size=10 --data.data_dir=/data/tfds
  python evaluate.py --compare=runs/x,runs/y --out=comparison.html

Results go to WORKDIR/eval/; the task `report` writes WORKDIR/report.html of all that is there. Exit
status: 0, 1 if a task failed or was refused, 2 if something must be changed before any can begin.
"""

import contextlib
import io
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from configs import base
from hfsgm_jax import processes
from hfsgm_jax.config import check_keys, flatten

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder, as written by train.py.")
_TASKS = flags.DEFINE_string("tasks", "likelihood,sample", "Comma-separated tasks, or all.")
_COMPARE = flags.DEFINE_list(
    "compare", None, "Comma-separated folders of evaluated runs: writes a page and prints tables of them side by side."
)
_OUT = flags.DEFINE_string("out", None, "With --compare: the page. Default: compare.html in the first folder.")
processes.define_flags()
_DEFAULTS = base.get_config()
SECTIONS = ("eval", "data")
DATA_KEYS = ("data_dir", "path", "cache_dir")


def _parse_flags(argv: list[str]) -> list[str]:
    """Flags, with unknown keys named before ml_collections, which reads them when defined, fails on them."""
    names = [arg.lstrip("-").split("=")[0] for arg in argv[1:]]
    try:
        check_keys([name for name in names if name.split(".")[0] in SECTIONS and "." in name], flatten(_DEFAULTS))
        for section in SECTIONS:
            config_flags.DEFINE_config_dict(
                section, _DEFAULTS[section], f"--{section}.KEY=VALUE, over the run's config."
            )
        return flags.FLAGS(argv)
    except (flags.Error, ValueError) as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        sys.exit(2)


def overrides() -> dict:
    """``"section.key"`` -> the value given on the command line."""
    given = {section: config_flags.get_override_values(flags.FLAGS[section]) for section in SECTIONS}
    return {f"{section}.{key}": value for section in SECTIONS for key, value in given[section].items()}


def defaults() -> dict:
    """``"section.key"`` -> value of what the config of a run of an older version may lack."""
    return {
        f"{section}.{key}": value for section in ("data", "eval", "model") for key, value in _DEFAULTS[section].items()
    }


def check_flags(argv: list[str], given: dict) -> None:
    """Raises ValueError where flags do not go together."""
    if argv[1:]:
        raise ValueError(f"unknown argument {argv[1]!r}; options look like --tasks=likelihood")
    fixed = [key for key in given if key.startswith("data.") and key.split(".")[1] not in DATA_KEYS]
    if fixed:
        raise ValueError(
            f"{fixed[0]} belongs to the trained model; only {', '.join(f'data.{key}' for key in DATA_KEYS)} may "
            "differ in an evaluation (eval.source, eval.split and eval.set_size choose other sets)"
        )
    if _COMPARE.value is None:
        if _OUT.value is not None:
            raise ValueError("--out is the page of --compare; results of --workdir go into its folder")
        if _WORKDIR.value is None:
            raise ValueError("--workdir=DIR, the folder of a run, is needed (or --compare=DIR,DIR,...)")
        return
    others = "workdir", "tasks", "coordinator", "num_processes", "process_id"
    needless = [name for name in others if flags.FLAGS[name].present] + list(given)
    if needless:
        raise ValueError(
            f"--compare reads results that are there already, and takes no --{needless[0]}; "
            "evaluate the runs first, each with --workdir"
        )
    if _OUT.value is not None and (not _OUT.value or Path(_OUT.value).is_dir()):
        raise ValueError(f"--out={_OUT.value} is no file name; give one such as --out=comparison.html")


# What follows imports late: flags are checked before JAX starts.


def compare_runs() -> int:
    """Compares the runs of --compare; the exit status."""
    from hfsgm_jax.evaluation.compare import compare
    from hfsgm_jax.models import build_model
    from hfsgm_jax.run_folder import run_config

    def open_model(folder):
        config = run_config(folder, defaults=defaults())
        return build_model(config.model, tuple(config.image_shape))

    folders = [Path(name.strip()) for name in _COMPARE.value if name.strip()]
    path, tables = compare(folders, open_model, Path(_OUT.value) if _OUT.value else None)
    print(f"{tables}\n\n  -> {path}")
    return 0


def evaluate_run(given: dict) -> int:
    """Evaluates the run of --workdir with these values over its config; the exit status."""
    from hfsgm_jax import mesh
    from hfsgm_jax.evaluation import Evaluation
    from hfsgm_jax.evaluation.run import evaluate, parse_tasks
    from hfsgm_jax.run_folder import open_run

    tasks, everything = parse_tasks(_TASKS.value)
    processes.start(*processes.flag_values())
    mesh.use_cpu_cores()
    run = open_run(_WORKDIR.value, overrides=given, defaults=defaults())
    evaluation = Evaluation(Path(_WORKDIR.value), *run)
    with contextlib.redirect_stdout(sys.stdout if processes.is_writer() else io.StringIO()):
        return evaluate(evaluation, tasks, skip_inapplicable=everything).status


def main(argv: list[str]) -> int:
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    try:
        given = overrides()
        check_flags(argv, given)
        with processes.together(ValueError):
            return evaluate_run(given) if _COMPARE.value is None else compare_runs()
    except ValueError as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return processes.leave(2)


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_flags)
