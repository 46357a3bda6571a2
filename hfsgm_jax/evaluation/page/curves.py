"""Training curves, as SVG."""

import io
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np

from hfsgm_jax.evaluation import plots

Lines = list[dict[str, Any]]  # of metrics.jsonl
Axis = tuple[str, float, str]  # key in the metrics, size of the unit, label
IMAGES, MINUTES = ("images", 1e3, "training images, thousands"), ("seconds", 60.0, "minutes of training")
NATS = "nats per image"
# Charts of a run: y axis, curve -> metric, caption.
CHARTS = (
    (NATS, {"training": "train/nelbo", "validation": "val/objective"}, "Objective, of batches and of fixed sets."),
    (NATS, {"z": "train/kl_z", "c": "train/kl_c"}, "KL of image latents z and, per image, of set latents c."),
    ("learning rate", {"learning rate": "learning_rate"}, "Learning rate."),
)


def curve_charts(runs: Mapping[str, Lines]) -> list[tuple[str, str]]:
    """(SVG, caption): objective, KL, learning rate of one run, or validation NELBO of several; those that there are."""
    if len(runs) == 1:
        (lines,) = runs.values()
        charts = [(IMAGES, y, {k: points(lines, IMAGES, v) for k, v in curves.items()}, c) for y, curves, c in CHARTS]
    else:
        validation = lambda x: {name: points(lines, x, "val/nelbo") for name, lines in runs.items()}
        charts = [
            (x, NATS, validation(x), f"Validation NELBO, whatever the objective, against {x[2]}.")
            for x in (IMAGES, MINUTES)
        ]
    return [(_svg(curves, x, y), caption) for x, y, curves, caption in charts if any(map(len, curves.values()))]


def points(lines: Lines, x: Axis, metric: str) -> np.ndarray:
    """``[n, 2]``: the finite values of a metric; the others are words in the file."""
    found = [(line[x[0]] / x[1], line[metric]) for line in lines if isinstance(line.get(metric), int | float)]
    return np.reshape(found, (-1, 2))


def draw(axes: Any, curves: Mapping[str, np.ndarray], x: Axis, y: str) -> None:
    """Draws curves ``[n, 2]`` by name; few points get markers."""
    for name, curve in curves.items():
        axes.plot(*curve.T, ".-" if len(curve) < 50 else "-", label=name, linewidth=1.4)
    settled = np.concatenate([curve[len(curve) // 10 :, 1] for curve in curves.values()])
    if axes.dataLim.y1 > settled.max() + np.ptp(settled):  # the first steps would flatten the rest
        axes.set_ylim(axes.dataLim.y0 - 0.05 * np.ptp(settled), settled.max() + 0.15 * np.ptp(settled))
    axes.set(xlabel=x[2], ylabel=y)
    axes.legend(fontsize=8, frameon=False)


def _svg(curves: Mapping[str, np.ndarray], x: Axis, y: str) -> str:
    figure, (axes,) = plots.figure(width=4.6, height=3.0)
    draw(axes, curves, x, y)
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "curves"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
