"""Plots of results: one style, no global state of pyplot, atomic files."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

COLORS = ("#3366aa", "#cc5544", "#228855", "#aa7733", "#775599", "#557788")  # told apart also without colour vision


def figure(columns: int = 1, *, width: float = 5.0, height: float = 3.4, **subplots: Any) -> tuple[Figure, np.ndarray]:
    """A figure with a row of axes ``[columns]``, gridded, in `COLORS`; ``width`` inches each."""
    page = Figure(figsize=(width * columns, height), layout="constrained")
    axes = np.atleast_1d(page.subplots(1, columns, **subplots))
    for axis in axes.flat:
        axis.set_prop_cycle(color=COLORS)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return page, axes


def save(page: Figure, path: str | os.PathLike) -> Path:
    """Writes a PNG atomically, with the folders it needs."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    page.savefig(partial, format="png", dpi=120)
    os.replace(partial, path)
    return path
