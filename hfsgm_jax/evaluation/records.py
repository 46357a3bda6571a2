"""Results: a number with every condition that gives it its meaning, kept in ``eval/TASK.json``."""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

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
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    records = {condition(record): record for record in [*read_records(path), *json.loads(_dump(list(new)))]}
    partial = path.with_suffix(".part")
    partial.write_text(_dump(list(records.values())) + "\n")
    os.replace(partial, path)


def _dump(records: list[Record]) -> str:
    return json.dumps(records, indent=1, allow_nan=True)


def table(records: Iterable[Mapping[str, Any]]) -> str:
    """The records as aligned lines: name, value, standard error, unit, and what tells them apart."""
    rows = [("", "value", "± s.e.", "unit", "bits/dim", "K", "set size", "sets")]
    for record in records:
        if record.get("value") is None:
            continue
        bits = record.get("bits_per_dim")
        error = record.get("standard_error")
        rows.append(
            (
                str(record["name"]),
                f"{record['value']:.2f}",
                "" if error is None else f"{error:.2f}",
                str(record.get("unit", "")),
                "" if bits is None else f"{bits:.4f}",
                str(record.get("importance_samples", "")),
                str(record.get("set_size", "")),
                str(record.get("num_sets", "")),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    keep = [i for i in range(len(rows[0])) if i < 2 or any(row[i] for row in rows[1:])]
    lines = []
    for row in rows:
        cells = [row[i].ljust(widths[i]) if i in (0, 3) else row[i].rjust(widths[i]) for i in keep]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
