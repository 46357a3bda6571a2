"""Runs evaluation tasks on a run's folder and keeps their results."""

import difflib
import sys
import time
import traceback
from collections.abc import Sequence

from hfsgm_jax.evaluation import TASKS, Evaluation, EvaluationError
from hfsgm_jax.evaluation.records import Record, table, write_records


def parse_tasks(text: str) -> list[str]:
    """``"likelihood,sample"`` or ``"all"`` -> names of tasks, each once.

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
    return list(dict.fromkeys(TASKS if "all" in names else names))


def evaluate(evaluation: Evaluation, tasks: Sequence[str]) -> dict[str, list[Record]]:
    """Runs tasks, writes ``eval/TASK.json`` and pictures into the run's folder, prints tables.

    A task that fails is reported and the others go on.

    Args:
      evaluation: the run.
      tasks: names in `TASKS`.

    Returns:
      Task -> its records; tasks that failed are missing.

    Raises:
      EvaluationError, DataError: (ValueErrors) what the user has to change, before any computation.
    """
    evaluation.check()
    results = {}
    for task in tasks:
        try:
            results[task] = _run_task(evaluation, task)
        except Exception:  # noqa: BLE001  one task's failure is not the others'
            traceback.print_exc()
            print(f"task {task} failed (above); the others go on", file=sys.stderr)
    return results


def _run_task(evaluation: Evaluation, task: str) -> list[Record]:
    conditions, records, start = evaluation.conditions(), [], time.monotonic()
    for name, values in TASKS[task](evaluation):
        records.append({"name": name, **values, **conditions, "seconds": round(time.monotonic() - start, 1)})
    path = evaluation.workdir / "eval" / f"{task}.json"
    write_records(path, records)
    c = conditions
    print(
        f"\n{task}: {c['source']} {c['split']} ({c['scheme']}, {c['resize']}), {c['num_sets']} sets of "
        f"{c['set_size']}, step {c['step']}, {time.monotonic() - start:.1f} s"
    )
    print(table(records)) if any("value" in record for record in records) else None
    for record in records:
        for picture in record.get("pictures", ()):
            print(f"  {record['name']}: {evaluation.workdir / picture}")
    print(f"  -> {path}", flush=True)
    return records
