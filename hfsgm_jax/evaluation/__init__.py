"""Evaluations of a trained run: each a generator function of an `Evaluation` in a file of its own.

To add one, also from outside: write ``task(run: Evaluation) -> Iterator[Record]``, which raises a UserError before its
first ``yield`` where it does not apply, and give it to `evaluate` or put it into `TASKS`. ``result = yield record``
gives the finished record as a dict.
"""

from hfsgm_jax.evaluation.base import Evaluation
from hfsgm_jax.evaluation.records import Record, Result
from hfsgm_jax.evaluation.run import TASKS, evaluate

__all__ = ["TASKS", "Evaluation", "Record", "Result", "evaluate"]
