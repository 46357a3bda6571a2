"""Records: a number or a picture with every condition that gives it its meaning, kept in ``eval/TASK.json``."""

import json
import os
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hfsgm_jax import processes
from hfsgm_jax.errors import ConfigError

Result = dict[str, Any]  # a finished record, as it stands in the file: name, conditions and measured fields, flat
# Fields that a measurement gives; all other fields of a result are its conditions.
MEASURED = ("value", "unit", "standard_error", "clusters", "bits_per_dim", "parts", "pictures", "seconds")
RESAMPLES = 1000  # of the bootstrap


class Record(NamedTuple):
    """A measurement that an evaluation offers.

    Attributes:
      name: of the quantity ("nelbo"), or "figure".
      conditions: everything the value depends on beside `Evaluation.run_conditions`: data, estimator, set size, ...
      measure: computes and returns fields of `MEASURED`; called at most once, before the evaluation goes on.
      keep: whether a finished record of the same conditions is kept when the call is repeated. False for a cheap
        figure over other records, which is drawn again.
    """

    name: str
    conditions: dict[str, Any]
    measure: Callable[[], dict[str, Any]]
    keep: bool = True


# Of a task: it raises a UserError before its first record where it does not apply; every `yield` gives the result.
Records = Generator[Record, Result, None]


def bootstrap_error(totals: np.ndarray, sizes: np.ndarray) -> float | None:
    """Standard error of sum(totals) / sum(sizes) over clusters, ``[clusters]`` each; None below 2 of them."""
    if len(totals) < 2:
        return None
    picks = np.random.default_rng(0).integers(0, len(totals), (RESAMPLES, len(totals)))
    return float((totals[picks].sum(1) / sizes[picks].sum(1)).std(ddof=1))


def measured(
    totals: np.ndarray, sizes: Any = 1.0, classes: np.ndarray | None = None, unit: str = "nats/image", **more: Any
) -> dict[str, Any]:
    """Measured fields of sum(totals) / sum(sizes) over sets, with its `bootstrap_error` over classes.

    Sets of one class resemble each other: resampled one by one they would seem more than they are.

    Args:
      totals, sizes: ``[sets]``.
      classes: ``[sets]``, the label of each set's class; None: each is of its own.
    """
    totals, sizes = np.asarray(totals, np.float64), np.broadcast_to(sizes, totals.shape)
    if classes is not None:
        row_of = {label: row for row, label in enumerate(dict.fromkeys(classes.tolist()))}
        rows = [row_of[label] for label in classes.tolist()]
        totals, sizes = np.bincount(rows, totals), np.bincount(rows, sizes)
    value = {"value": float(totals.sum() / sizes.sum()), "unit": unit, "standard_error": bootstrap_error(totals, sizes)}
    return value | {"clusters": [totals.round(4).tolist(), sizes.tolist()]} | more


def increase(result: Result, reference: Result) -> dict[str, Any]:
    """Difference of two results on the same images, and its standard error, paired by cluster.

    Empty where a result does not have its clusters, or not the same ones.
    """
    (totals, sizes), (others, _) = (np.asarray(found.get("clusters", ((), ()))) for found in (result, reference))
    if not len(totals) or len(totals) != len(others):
        return {}
    return {"increase": result["value"] - reference["value"], "increase_error": bootstrap_error(totals - others, sizes)}


def conditions_of(result: Result) -> str:
    """The key of a result: two results with the same one are the same measurement."""
    return json.dumps({k: v for k, v in result.items() if k not in MEASURED}, sort_keys=True)


def read_results(path: str | os.PathLike) -> list[Result]:
    """The results of a file; none if there is no such file.

    Raises:
      ConfigError: it cannot be read, or holds something else.
    """
    try:
        return [dict(result) for result in json.loads(Path(path).read_text())]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} is no list of results ({error}); remove it, or move it away") from None


def write_results(path: str | os.PathLike, new: Iterable[Result]) -> None:
    """Adds results to a file, all of it or nothing; each replaces the one of the same conditions."""
    results = {conditions_of(result): result for result in [*read_results(path), *new]}
    with processes.replacing(path) as partial:
        partial.write_text("[\n" + ",\n".join(map(json.dumps, results.values())) + "\n]\n")
