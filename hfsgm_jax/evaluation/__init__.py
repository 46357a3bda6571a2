"""Evaluations of a trained run: each a generator of (name, record) in a file of its own.

To add one, write ``NAME(Evaluation) -> Iterator[(name, Record)]`` and ``check(Evaluation)``, which raises
before any computation if it cannot be done, and name both in `TASKS`.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from hfsgm_jax.evaluation import (
    attention,
    cardinality,
    classify,
    context_bypass,
    kl_layers,
    likelihood,
    report,
    sample,
    shared,
    transfer,
)
from hfsgm_jax.evaluation.context import Evaluation, EvaluationError, NotApplicable
from hfsgm_jax.evaluation.records import Record


class Task(NamedTuple):
    """One evaluation.

    Attributes:
      run: yields (name, record); each record is written when it is yielded.
      check: raises EvaluationError or DataError where options or data do not allow it, NotApplicable
        where the model does not.
    """

    run: Callable[[Evaluation], Iterator[tuple[str, Record]]]
    check: Callable[[Evaluation], None]


TASKS: dict[str, Task] = {
    "likelihood": Task(likelihood.likelihood, likelihood.check),
    "cardinality": Task(cardinality.cardinality, cardinality.check),
    "transfer": Task(transfer.transfer, transfer.check),
    "kl_layers": Task(kl_layers.kl_layers, kl_layers.check),
    "context_bypass": Task(context_bypass.context_bypass, context_bypass.check),
    "classify": Task(classify.classify, classify.check),
    "attention": Task(attention.attention, attention.check),
    "sample": Task(sample.sample, sample.check),
    "shared": Task(shared.shared, shared.check),
    "report": Task(report.report, report.check),  # last: of what the others left
}

__all__ = ["TASKS", "Evaluation", "EvaluationError", "NotApplicable", "Record", "Task"]
