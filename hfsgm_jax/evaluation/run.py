"""Runs evaluation tasks on a run's folder and keeps their results."""

import difflib
import sys
import time
import traceback
from collections.abc import Sequence
from typing import NamedTuple

from hfsgm_jax import processes
from hfsgm_jax.evaluation import TASKS, Evaluation, EvaluationError, NotApplicable
from hfsgm_jax.evaluation.records import Record, table, write_records


class Outcome(NamedTuple):
    """How tasks ended: name -> records, and name -> why not."""

    results: dict[str, list[Record]]
    refused: dict[str, str]  # must be changed first; nothing was computed
    failed: dict[str, str]  # began and broke
    inapplicable: dict[str, str]  # no meaning for this model, and not asked for by name

    @property
    def status(self) -> int:
        """Exit status: 0, 1 if a task failed or was refused, 2 if all were."""
        if not (self.refused or self.failed):
            return 0
        return 1 if self.results or self.failed else 2


def parse_tasks(text: str) -> tuple[list[str], bool]:
    """``"likelihood,sample"`` or ``"all"`` -> names of tasks, each once, and whether all were meant.

    Raises:
      EvaluationError: names the nearest valid task.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name != "all" and name not in TASKS:
            near = difflib.get_close_matches(name, TASKS, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise EvaluationError(f"unknown task {name!r}; {hint}Tasks: {', '.join(TASKS)}, or all")
    if not names:
        raise EvaluationError(f"no task given. Tasks: {', '.join(TASKS)}, or all")
    return list(dict.fromkeys(TASKS if "all" in names else names)), "all" in names


def evaluate(evaluation: Evaluation, tasks: Sequence[str], skip_inapplicable: bool = False) -> Outcome:
    """Runs tasks, writes ``eval/TASK.json`` and pictures into the run's folder, prints tables.

    All tasks are checked before any of them computes. A task that is refused or fails is reported,
    and the others go on. What an interrupted task had finished is kept: the same call continues it.

    Args:
      evaluation: the run.
      tasks: names in `TASKS`.
      skip_inapplicable: a task that means nothing for the model is skipped with a line, not refused.

    Raises:
      EvaluationError: options out of range, before any computation.
    """
    evaluation.check()
    outcome = Outcome({}, {}, {}, {})
    for task in tasks:
        try:
            TASKS[task].check(evaluation)
        except ValueError as error:  # of options, data or checkpoints: the user's to change
            skipped = skip_inapplicable and isinstance(error, NotApplicable)
            (outcome.inapplicable if skipped else outcome.refused)[task] = str(error)
            if processes.is_writer():
                print(f"evaluate: {task} {'does not apply' if skipped else 'is refused'}: {error}", file=sys.stderr)
    processes.check_same(repr(sorted(outcome.refused | outcome.inapplicable)), "which tasks are refused")
    for task in tasks:
        if task in outcome.refused or task in outcome.inapplicable:
            continue
        try:
            outcome.results[task] = _run_task(evaluation, task)
        except Exception as error:  # noqa: BLE001  one task's failure is not the others'
            if not processes.alone():  # but other processes may go on with this one
                raise
            evaluation.journal.release()
            traceback.print_exc()
            outcome.failed[task] = str(error)
            print(f"evaluate: {task} failed (above)", file=sys.stderr)
    return outcome


def _run_task(evaluation: Evaluation, task: str) -> list[Record]:
    records, start = [], time.monotonic()
    path = evaluation.folder / f"{task}.json"
    evaluation.journal.begin(task)
    print(f"\n{task}: {evaluation.workdir}, step {evaluation.step}", flush=True)
    for name, values in TASKS[task].run(evaluation):
        seconds = round(time.monotonic() - start, 1)
        records.append({"name": name, **evaluation.run_conditions, **values, "seconds": seconds})
        write_records(path, records[-1:])
    evaluation.journal.forget()
    print(table(records)) if any("value" in record for record in records) else None
    for picture in dict.fromkeys(picture for record in records for picture in record.get("pictures", ())):
        print(f"  {evaluation.workdir / picture}")
    print(f"  -> {path} ({time.monotonic() - start:.1f} s)", flush=True)
    return records
