"""Results: a number with every condition that gives it its meaning, kept in ``eval/TASK.json``."""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hfsgm_jax import processes

Record = dict[str, Any]
# What a rerun may change; all other fields of a record are its key.
MEASURED = ("value", "standard_error", "bits_per_dim", "parts", "pictures", "seconds")
RESAMPLES = 1000  # of the bootstrap


def bootstrap_error(totals: np.ndarray, sizes: np.ndarray, seed: int = 0) -> float | None:
    """Standard error of sum(totals) / sum(sizes) over sets, by resampling them; None below 2 sets."""
    if len(totals) < 2:
        return None
    picks = np.random.default_rng(seed).integers(0, len(totals), (RESAMPLES, len(totals)))
    return float((totals[picks].sum(1) / sizes[picks].sum(1)).std(ddof=1))


def bits_per_dim(nats: float, image_shape: tuple[int, int, int]) -> float:
    """Nats per image -> bits per value of the image."""
    return nats / (math.log(2) * math.prod(image_shape))


def condition(record: Record) -> str:
    """The key of a record: two records with the same one are the same measurement."""
    return json.dumps({k: v for k, v in record.items() if k not in MEASURED}, sort_keys=True)


def read_records(path: str | os.PathLike) -> list[Record]:
    """The records of a results file; none if there is no such file."""
    path = Path(path)
    return json.loads(path.read_text()) if path.exists() else []


def write_records(path: str | os.PathLike, new: Iterable[Record]) -> None:
    """Adds records to a results file, atomically; each replaces the one of the same conditions."""
    records = {condition(record): record for record in [*read_records(path), *json.loads(_dump(list(new)))]}
    with processes.replacing(path) as partial:
        partial.write_text(_dump(list(records.values())) + "\n")


def _dump(records: list[Record]) -> str:
    return json.dumps(records, indent=1, allow_nan=True)


def table(records: Iterable[Mapping[str, Any]]) -> str:
    """The records as aligned lines: name, value, standard error, unit, and the conditions that tell them apart."""
    records = [record for record in records if record.get("value") is not None]
    varying = [key for key in _conditions_of(records) if len({str(record.get(key, "")) for record in records}) > 1]
    rows = [["", "value", "± s.e.", "unit", "bits/dim", *(key.replace("_", " ") for key in varying)]]
    for record in records:
        bits, error = record.get("bits_per_dim"), record.get("standard_error")
        cells = [record["name"], f"{record['value']:.3f}", "" if error is None else f"{error:.3f}"]
        cells += [record.get("unit", ""), "" if bits is None else f"{bits:.4f}"]
        rows.append([str(cell) for cell in (*cells, *(record.get(key, "") for key in varying))])
    keep = [i for i in range(len(rows[0])) if i < 2 or any(row[i] for row in rows[1:])]
    widths = {i: max(len(row[i]) for row in rows) for i in keep}
    left = 0, 3
    pad = lambda i, cell: cell.ljust(widths[i]) if i in left else cell.rjust(widths[i])  # noqa: E731
    return "\n".join("  ".join(pad(i, row[i]) for i in keep).rstrip() for row in rows)


def _conditions_of(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of the conditions that a line can show, in order of appearance."""
    hidden = {"name", "unit", "sha256", *MEASURED}
    simple = lambda value: isinstance(value, str | int | float | bool)  # noqa: E731
    return list(dict.fromkeys(key for r in records for key, value in r.items() if key not in hidden and simple(value)))
