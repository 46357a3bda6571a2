"""Plots of results: one style, no global state of pyplot, atomic files."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hfsgm_jax import processes
from hfsgm_jax.evaluation.records import Result

Pictures = dict[str, list[str]]  # the measured field of a record of pictures
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


def errorbars(axis: Any, points: Sequence[tuple[float, Mapping[str, Any]]], **style: Any) -> None:
    """A line through ``(x, result)``, in order of x, with the results' standard errors."""
    numbers = sorted((x, result["value"], result.get("standard_error") or 0.0) for x, result in points)
    axis.errorbar(*zip(*numbers), **{"marker": "o", "markersize": 4, "capsize": 3, **style})


def lines(path: Path, panels: Mapping[str, Mapping[str, Sequence[tuple[int, Result]]]], **labels: str) -> Pictures:
    """Results over whole numbers on logarithmic axes: title of a panel -> label of a line -> ``(x, result)``."""
    page, axes = figure(len(panels), sharex=True)
    for axis, (title, points) in zip(axes, panels.items()):
        for label, found in points.items():
            errorbars(axis, found, label=label)
        ticks = sorted({x for found in points.values() for x, _ in found})
        axis.set(title=title, xscale="log", **labels)
        axis.set_xticks(ticks, [f"{x:,}" for x in ticks])
        axis.minorticks_off()
        axis.legend(fontsize=8)
    return pictures(save(page, path))


def save(page: Figure, path: str | os.PathLike) -> Path:
    """Writes a PNG atomically, with the folders it needs."""
    with processes.replacing(path) as partial:
        page.savefig(partial, format="png", dpi=120)
    return Path(path)


def pictures(*paths: Path) -> Pictures:
    """Files in ``eval/`` as pictures of a record: their paths relative to the run's folder."""
    return {"pictures": [f"eval/{path.name}" for path in paths]}
