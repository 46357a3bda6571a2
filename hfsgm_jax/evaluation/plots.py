"""Plots of results: one style, no global state of pyplot, atomic files."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hfsgm_jax import processes

COLORS = ("#3366aa", "#cc5544", "#228855", "#aa7733", "#775599", "#557788")  # told apart also without colour vision


def figure(
    columns: int = 1, *, rows: int = 1, width: float = 5.0, height: float = 3.4, **subplots: Any
) -> tuple[Figure, np.ndarray]:
    """A figure with axes ``[columns]``, or ``[rows, columns]``, in `COLORS`; ``width`` by ``height`` inches each."""
    page = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = np.atleast_1d(page.subplots(rows, columns, **subplots))
    for axis in axes.flat:
        axis.set_prop_cycle(color=COLORS)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return page, axes


def file_name(task: str, data: Mapping[str, Any]) -> str:
    """A picture's name from its task and the data conditions of its records: other data, another file."""
    return f"{task}_{data['source']}_{data['split']}_{data['set_size']}.png"


def errorbars(axis: Any, points: Iterable[tuple[float, Mapping[str, Any]]], **style: Any) -> None:
    """A line through ``(x, record)``, in order of x, with the records' standard errors."""
    points = sorted(points, key=lambda point: point[0])
    errors = [record.get("standard_error") or 0.0 for _, record in points]
    values = [record["value"] for _, record in points]
    axis.errorbar([x for x, _ in points], values, errors, **{"marker": "o", "markersize": 4, "capsize": 3, **style})


def save(page: Figure, path: str | os.PathLike) -> Path:
    """Writes a PNG atomically, with the folders it needs."""
    with processes.replacing(path) as partial:
        page.savefig(partial, format="png", dpi=120)
    return Path(path)
