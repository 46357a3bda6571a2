"""Training curves as SVG to be put into a page."""

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from hfsgm_jax.evaluation import plots

Line = dict[str, Any]  # of metrics.jsonl
IMAGES, MINUTES = ("images", 1e3, "training images, thousands"), ("seconds", 60.0, "minutes of training")


class Curve(NamedTuple):
    """A chart: SVG text for a page, and what it shows."""

    svg: str
    caption: str


def read_metrics(workdir: Path) -> list[Line]:
    """The lines of a run's ``metrics.jsonl``; what a kill left half-written is skipped."""
    path, lines = workdir / "metrics.jsonl", []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return [line for line in lines if isinstance(line, dict) and "images" in line]


def training_curves(lines: Sequence[Line]) -> list[Curve]:
    """NELBO, KL of c and of z, and the learning rate over the images seen; only what the lines hold."""
    charts = [
        _chart(
            lines,
            {"training": "train/nelbo", "validation": "val/nelbo"},
            "nats per image",
            "NELBO. Training: with the noise of batches and of parameters as they were; validation: of the (averaged) "
            "parameters on fixed sets.",
        ),
        _chart(
            lines,
            {"KL of z": "train/kl_z", "KL of c": "train/kl_c"},
            "nats per image",
            "KL of the image latents z and of the set latents c (divided by the set size), in training.",
        ),
        _chart(lines, {"learning rate": "learning_rate"}, "learning rate", "Learning rate."),
    ]
    return [chart for chart in charts if chart]


def validation_curves(runs: Mapping[str, Sequence[Line]]) -> list[Curve]:
    """Validation NELBO of several runs, against training images and against minutes."""
    charts = []
    for x, what in ((IMAGES, "training images"), (MINUTES, "minutes of training")):

        def draw(axis, x=x):
            for name, lines in runs.items():
                _draw(axis, lines, x, "val/nelbo", name, ".-")

        charts.append(_figure(draw, x[2], "nats per image", f"Validation NELBO against {what}."))
    return [chart for chart in charts if chart]


def _chart(lines: Sequence[Line], series: Mapping[str, str], unit: str, caption: str) -> Curve | None:
    def draw(axis):
        for name, key in series.items():
            _draw(axis, lines, IMAGES, key, name, ".-" if key.startswith("val/") else "-")

    return _figure(draw, IMAGES[2], unit, caption)


def _draw(axis: Any, lines: Sequence[Line], x: tuple[str, float, str], key: str, name: str, style: str) -> None:
    points = [(line[x[0]] / x[1], line[key]) for line in lines if _finite(line.get(key)) and x[0] in line]
    if points:
        axis.plot(*zip(*points, strict=True), style, label=name, linewidth=1.4)


def _figure(draw: Callable[[Any], None], x_label: str, y_label: str, caption: str) -> Curve | None:
    page, (axis,) = plots.figure(width=4.6, height=3.0)
    draw(axis)
    if not axis.lines:
        return None
    values = np.concatenate([line.get_ydata() for line in axis.lines])
    # The first steps lie far above all others: they would flatten the rest.
    top, low = np.quantile(np.concatenate([_settled(line.get_ydata()) for line in axis.lines]), [1, 0])
    if values.max() > top + (top - low):
        axis.set_ylim(min(values.min(), low) - 0.05 * (top - low), top + 0.15 * (top - low))
    axis.set(xlabel=x_label, ylabel=y_label)
    if len(axis.lines) > 1 or axis.lines[0].get_label() != y_label:
        axis.legend(fontsize=8, frameon=False)
    return Curve(to_svg(page), caption)


def _settled(values: np.ndarray) -> np.ndarray:
    """A curve without its first tenth."""
    return values[len(values) // 10 :]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))


def to_svg(page: Figure) -> str:
    """A figure as an ``<svg>`` element for the inside of an HTML page: text stays text, nothing is fetched."""
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "curves", "font.family": "sans-serif"}):
        page.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    # HTML knows the namespaces of <svg> by itself.
    for name in ('xmlns:xlink="http://www.w3.org/1999/xlink"', 'xmlns="http://www.w3.org/2000/svg"'):
        svg = svg.replace(name, "", 1)
    return re.sub(r'<g id="[^"]*">', "<g>", svg)  # the same in every figure, and referred to by nothing
