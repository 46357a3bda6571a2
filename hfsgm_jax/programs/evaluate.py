"""Evaluates trained runs.

  python evaluate.py --workdir=runs/x --tasks=likelihood,sample
  python evaluate.py --workdir=runs/x --tasks=all --eval.set_size=10 --data.data_dir=/data/tfds
  python evaluate.py --workdir=runs/x,runs/y --tasks=report --out=comparison.html

Results go to WORKDIR/eval/; the task `report` writes WORKDIR/report.html of all that is there, or one page about
several runs side by side. --eval.KEY=VALUE changes a key of the config's section eval. Exit status: 0, 1 if a task
failed or was refused, 2 if something must be changed before any can begin.
"""

import argparse
import contextlib
import io
import sys
from collections.abc import Mapping, Sequence

from hfsgm_jax import processes
from hfsgm_jax.errors import ConfigError, UserError
from hfsgm_jax.evaluation.base import Evaluation
from hfsgm_jax.evaluation.report import compare
from hfsgm_jax.evaluation.run import choose, run_tasks
from hfsgm_jax.programs import make_parser, parse


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser("evaluate.py", __doc__)
    parser.add_argument("--workdir", required=True, help="folder of a run; with --tasks=report, of several")
    parser.add_argument("--tasks", default="likelihood,sample", help="separated by commas, or all")
    parser.add_argument("--out", help="page of --tasks=report about several runs; default: compare.html in the first")
    options, given = parse(parser, argv, "")
    program = _compare if "," in options.workdir or options.out else _evaluate
    try:
        with processes.together(UserError):
            status = program(options, given)
    except UserError as error:
        processes.leave(2, f"evaluate.py: {error}")
    sys.exit(status)


def _compare(options: argparse.Namespace, given: Mapping[str, str]) -> int:
    if options.tasks != "report" or given:
        raise ConfigError("several runs, and --out, go with --tasks=report alone: evaluate each run before")
    page, tables = compare(options.workdir.split(","), options.out)
    print(f"{tables}\n\n  -> {page}")
    return 0


def _evaluate(options: argparse.Namespace, given: Mapping[str, str]) -> int:
    choose(options.tasks)  # before the checkpoint is read
    processes.start(options.coordinator, options.num_processes, options.process_id)
    run = Evaluation.open(options.workdir, given)
    with contextlib.redirect_stdout(sys.stdout if processes.is_writer() else io.StringIO()):
        results, problems = run_tasks(run, options.tasks)
    only_refused = not results and all(isinstance(problem, UserError) for problem in problems.values())
    return 0 if not problems else 2 if only_refused else 1
