"""Evaluates a trained run.

  python evaluate.py --workdir=runs/x --tasks=likelihood,sample
  python evaluate.py --workdir=runs/x --tasks=all --eval.set_size=10 --data.data_dir=/data/tfds

Results go to WORKDIR/eval/. Exit status: 0, 1 if a task failed or was refused, 2 if something must be changed before any can begin.
"""

import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from configs import base
from hfsgm_jax.config import check_keys, flatten

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder, as written by train.py.", required=True)
_TASKS = flags.DEFINE_string("tasks", "likelihood,sample", "Comma-separated tasks, or all.")
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


def main(argv: list[str]) -> int:
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    # Imported late: flags are checked before JAX starts.
    from hfsgm_jax import mesh
    from hfsgm_jax.evaluation import Evaluation
    from hfsgm_jax.evaluation.run import evaluate, parse_tasks
    from hfsgm_jax.run_folder import open_run

    try:
        if argv[1:]:
            raise ValueError(f"unknown argument {argv[1]!r}; options look like --tasks=likelihood")
        given = overrides()
        fixed = [key for key in given if key.startswith("data.") and key.split(".")[1] not in DATA_KEYS]
        if fixed:
            raise ValueError(
                f"{fixed[0]} belongs to the trained model; only {', '.join(f'data.{key}' for key in DATA_KEYS)} may "
                "differ in an evaluation (eval.source, eval.split and eval.set_size choose other sets)"
            )
        tasks, everything = parse_tasks(_TASKS.value)
        defaults = {f"eval.{key}": value for key, value in _DEFAULTS.eval.items()}
        mesh.use_cpu_cores()
        run = open_run(_WORKDIR.value, overrides=given, defaults=defaults)
        evaluation = Evaluation(Path(_WORKDIR.value), run.config, run.model, run.variables, run.step)
        return evaluate(evaluation, tasks, skip_inapplicable=everything).status
    except ValueError as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_flags)
