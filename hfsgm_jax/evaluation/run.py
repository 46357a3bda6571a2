"""Running evaluations on a run's folder, keeping their records."""

import importlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hfsgm_jax import processes
from hfsgm_jax.data import Dataset
from hfsgm_jax.errors import ConfigError, NotApplicable, UserError, check_choice
from hfsgm_jax.evaluation.base import Evaluation
from hfsgm_jax.evaluation.records import MEASURED, Record, Records, Result, conditions_of, read_results, write_results
from hfsgm_jax.evaluation.tables import text_table

Task = Callable[[Evaluation], Records]
Tasks = str | Sequence[str | Task]
NAMES = "likelihood cardinality transfer kl_layers context_bypass classify attention sample shared report".split()
# Each the function NAME of the module NAME.
TASKS: dict[str, Task] = {name: getattr(importlib.import_module(f"{__package__}.{name}"), name) for name in NAMES}
DATA_OPTIONS = ("data_dir", "path")
# A task at its first record (None: it has none), and the results that its file holds, by their conditions.
Begun = tuple[Records, Record | None, dict[str, Result]]


def evaluate(
    workdir: str | Path, tasks: Tasks, dataset: Dataset | None = None, model: Any = None, **options: Any
) -> list[Result]:
    """Evaluates a run's folder: results and pictures go to ``eval/``, tables to standard output.

    Args:
      workdir: the folder.
      tasks: names in `TASKS`, or functions of an `Evaluation` that yield `Record`s; "all" is every one in `TASKS`
        that applies.
      dataset, model: of a run that was trained on the user's own data, or of the user's own model.
      options: keys of the config's section ``eval`` (``set_size=10``), and ``data_dir`` and ``path`` of ``data``.

    Returns:
      The records as dicts, as they stand in ``eval/TASK.json``. Those that were there already, of the same
      conditions, are not measured again.

    Raises:
      UserError: an unknown task, key or value, or a task that does not apply (and is asked for by name), before
        anything is computed.
    """
    choose(tasks)  # before the checkpoint is read
    overrides = {f"{'data' if key in DATA_OPTIONS else 'eval'}.{key}": value for key, value in options.items()}
    results, _ = run_tasks(Evaluation.open(workdir, overrides, dataset, model), tasks, strict=True)
    return [result for of_task in results.values() for result in of_task]


def choose(tasks: Tasks) -> tuple[dict[str, Task], bool]:
    """``"likelihood,sample"``, names and functions -> name -> task, each once, report last; whether all were meant.

    Raises:
      ConfigError: names the nearest valid task.
    """
    given = [name.strip() for name in tasks.split(",") if name.strip()] if isinstance(tasks, str) else list(tasks)
    if not given:
        raise ConfigError(f"no task given; there are {', '.join(TASKS)}, or all")
    for name in (name for name in given if isinstance(name, str)):
        check_choice("task", name, [*TASKS, "all"])
    chosen = {}
    for task in given:
        chosen |= TASKS if task == "all" else {task.__name__: task} if callable(task) else {task: TASKS[task]}
    last = {"report": chosen.pop("report")} if "report" in chosen else {}  # of the others' results
    return chosen | last, "all" in given


def run_tasks(
    run: Evaluation, tasks: Tasks, strict: bool = False
) -> tuple[dict[str, list[Result]], dict[str, Exception]]:
    """Runs tasks, none before all have been checked; of "all" those without meaning for the model are skipped.

    Args:
      tasks: see `evaluate`.
      strict: the first problem is raised. Otherwise it is told on standard error, and the other tasks go on.

    Returns:
      name -> results, and name -> why not.
    """
    chosen, everything = choose(tasks)
    begun, results, problems = {}, {}, {}
    for name, task in chosen.items():
        try:
            begun[name] = begin(run, name, task)
        except UserError as error:
            if strict and not everything:
                raise
            skipped = everything and isinstance(error, NotApplicable)
            _tell(f"{name} {'does not apply' if skipped else 'is refused'}: {error}")
            problems |= {} if skipped else {name: error}
    processes.check_same(repr(sorted(begun)), "which tasks are refused")
    for name, task in begun.items():
        try:
            results[name] = finish(run, name, task)
        except Exception as error:  # noqa: BLE001  one task's failure is not the others'
            if strict or not processes.alone():  # other processes may go on with this one
                raise
            traceback.print_exc()
            _tell(f"{name} failed (above)")
            problems[name] = error
    return results, problems


def _tell(text: str) -> None:
    if processes.is_writer():
        print(f"evaluate: {text}", file=sys.stderr)


def begin(run: Evaluation, name: str, task: Task) -> Begun:
    """A task at its first record; raises a UserError where it does not apply."""
    found = {conditions_of(result): result for result in read_results(run.workdir / "eval" / f"{name}.json")}
    records = task(run)
    return records, next(records, None), found


def finish(run: Evaluation, name: str, task: Begun) -> list[Result]:
    """Measures and writes a task's records, those excepted that are kept; prints their table."""
    path, start = run.workdir / "eval" / f"{name}.json", time.monotonic()
    print(f"\n{name}: {run.workdir}, step {run.step}", flush=True)
    records, record, found = task
    results, num_kept = [], 0
    while record is not None:
        conditions = {"name": record.name, **run.run_conditions, **record.conditions}
        result = _kept(run, found.get(conditions_of(conditions)) if record.keep else None)
        num_kept += result is not None
        if result is None:
            result = _measure(record, conditions)
            write_results(path, [result])
        results.append(result)
        try:
            record = records.send(result)
        except StopIteration:
            break
    if text := text_table(results):
        print(text)
    for picture in dict.fromkeys(picture for result in results for picture in result.get("pictures", ())):
        print(f"  {run.workdir / picture}")
    if num_kept:
        print(f"  {num_kept} of {len(results)} records were there already; remove {path} to measure them again")
    print(f"  -> {path} ({time.monotonic() - start:.1f} s)", flush=True)
    return results


def _kept(run: Evaluation, result: Result | None) -> Result | None:
    """A result of an earlier call, if every process finds it, and its pictures."""
    there = result is not None and all((run.workdir / picture).is_file() for picture in result.get("pictures", ()))
    return result if processes.all_agree(there) else None


def _measure(record: Record, conditions: dict[str, Any]) -> Result:
    """The finished record; of JSON's types, as it will be when it is kept."""
    start = time.monotonic()
    measured = record.measure()
    if unknown := measured.keys() - {*MEASURED}:
        raise TypeError(f"{record.name}: {sorted(unknown)} belong into its conditions; measured are {MEASURED}")
    return json.loads(json.dumps(conditions | measured | {"seconds": round(time.monotonic() - start, 1)}))
