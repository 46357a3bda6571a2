"""Plots of results in one style, without global state of pyplot; records of pictures."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from cycler import cycler
from matplotlib.figure import Figure

from hfsgm_jax.evaluation.base import Evaluation
from hfsgm_jax.evaluation.pictures import Page, save
from hfsgm_jax.evaluation.records import Record, Result

COLORS = ("#3366aa", "#cc5544", "#228855", "#aa7733", "#775599", "#557788")  # told apart also without colour vision
Points = Sequence[tuple[float, Mapping[str, Any]]]  # x and a result


def record(
    run: Evaluation, stem: str, conditions: Result, draw: Callable[[], Page], name: str = "figure", keep: bool = True
) -> Record:
    """A record of the picture that a function draws; its file is ``stem`` with the data: other data, another file."""
    data = [str(conditions[key]) for key in ("source", "split", "set_size") if key in conditions]
    path = f"eval/{'_'.join([stem, *data])}.png"

    def measure():
        save(draw(), run.workdir / path)
        return {"pictures": [path]}

    return Record(name, conditions, measure, keep)


def figure(
    columns: int = 1, *, rows: int = 1, width: float = 5.0, height: float = 3.4, **subplots: Any
) -> tuple[Figure, np.ndarray]:
    """A figure with axes ``[columns]``, or ``[rows, columns]``, in `COLORS`; ``width`` by ``height`` inches each."""
    page = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = np.atleast_1d(page.subplots(rows, columns, **subplots))
    for axis in axes.flat:
        axis.set_prop_cycle(cycler(linestyle=("-", "--", ":")) * cycler(color=COLORS))
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return page, axes


def errorbars(axis: Any, points: Points, **style: Any) -> None:
    """A line through ``(x, result)``, in order of x, with the results' standard errors."""
    numbers = sorted((x, result["value"], result.get("standard_error") or 0.0) for x, result in points)
    axis.errorbar(*np.reshape(numbers, (-1, 3)).T, **{"marker": "o", "markersize": 4, "capsize": 3, **style})


def lines(panels: Mapping[str, Mapping[str, Sequence[tuple[int, Result]]]], **labels: str) -> Figure:
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
    return page
