"""Evaluations of a trained run: each a generator of (name, record) in a file of its own.

To add one, write a function ``(Evaluation) -> Iterator[(name, Record)]`` and name it in `TASKS`.
"""

from collections.abc import Callable, Iterator

from hfsgm_jax.evaluation import likelihood, sample
from hfsgm_jax.evaluation.context import Evaluation, EvaluationError
from hfsgm_jax.evaluation.records import Record

Task = Callable[[Evaluation], Iterator[tuple[str, Record]]]

TASKS: dict[str, Task] = {"likelihood": likelihood.likelihood, "sample": sample.sample}

__all__ = ["TASKS", "Evaluation", "EvaluationError", "Record", "Task"]
