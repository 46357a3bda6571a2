"""Renders benchmarks/results/**/*.json as docs/benchmarks.md: a table per kind of measurement and machine.

python -m scripts.benchmarks_page
"""

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure
from hfsgm_jax.evaluation.tables import Table, markdown
from scripts import readme
from scripts.machine import ROOT

RESULTS = ROOT / "benchmarks" / "results"
OWN_COLUMN = ("data.sets_per_batch", "model.dtype", "train.devices", "train.cpu_devices")
Row = dict[str, Any]

SHAPE = "config | sets | dtype | devices"  # of every kind
# Kind -> heading and columns; the text between them is of the docstring of its function.
KINDS = {
    "train_step": (
        "Training step",
        "images/s | ms per step | model GFLOP/s | peak GFLOP/s | share | peak GiB | program GiB | compile s | "
        "parameters, M",
    ),
    "weak_scaling": (
        "Weak scaling of the training step",
        "images/s | efficiency | ms per step | program GiB | compile s",
    ),
    "sampling": ("Sampling", "new images per set | images/s | ms per image | peak GiB | program GiB | compile s"),
    "importance_sampling": ("Importance sampling", "K | at once | sample-images/s | peak GiB | compile s"),
    "torch_peer": ("Against PyTorch", "cores | variant | images/s | CPU ms per image | start s | peak GiB | PyTorch"),
}


def config_of(row: Row) -> str:
    """Name of the config, and the changes in the command that have no column of their own."""
    words = [word.removeprefix("--config.") for word in row["command"].split() if word.startswith("--config.")]
    changes = [word for word in words if word.split("=")[0] not in OWN_COLUMN]
    return " ".join(f"`{part}`" for part in [row["config"].removeprefix("configs/").replace(".py", ""), *changes])


# Heading -> a field of the record (with its factor or form), or a function of it; default: the field of that name.
COLUMNS = {
    "config": config_of,
    "sets": lambda row: f"{row.get('sets', row.get('sets_per_batch'))} × {text(row['set_size'])}",
    "images/s": "images_per_second",
    "ms per step": ("seconds_per_step", 1e3),
    "model GFLOP/s": ("model_flops_per_second", 1e-9),
    "peak GFLOP/s": ("matmul_flops_per_second", 1e-9),
    "share": ("share_of_peak", "{:.1%}"),
    "efficiency": ("efficiency", "{:.0%}"),
    "peak GiB": lambda row: row.get("peak_device_memory_gib", row.get("peak_memory_gib")),
    "program GiB": "program_memory_gib",
    "compile s": "compile_seconds",
    "parameters, M": ("parameters", 1e-6),
    "new images per set": "num",
    "ms per image": "milliseconds_per_image",
    "K": "samples",
    "at once": "chunk",
    "sample-images/s": "sample_images_per_second",
    "cores": lambda row: ([w[8:] for w in row["command"].split() if w.startswith("--cores=")] or [row["cores"]])[0],
    "variant": "name",
    "CPU ms per image": ("cpu_seconds_per_image", 1e3),
    "start s": "seconds_to_start",
    "PyTorch": "torch",
}


def text(value: Any) -> str:
    """A value as a cell: three significant digits, thousands apart, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return ", ".join(map(text, value)) if isinstance(value, list) else str(value)


def cell(row: Row, heading: str) -> str:
    """One cell; a median with its quartiles, where there are some."""
    value = COLUMNS.get(heading, heading)
    if callable(value):
        return text(value(row))
    name, form = (value, 1) if isinstance(value, str) else value
    if row.get(name) is None:
        return ""
    if isinstance(form, str):
        return form.format(row[name])
    quartiles = row.get(f"{name}_quartiles")
    return text(row[name] * form) + (f" [{text(quartiles)}]" if quartiles else "")


def load(folder: Path = RESULTS) -> list[Row]:
    """All results of a folder."""
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))]


def machine_line(row: Row) -> str:
    """The machine of a measurement."""
    device = "" if row["platform"] == "cpu" else f"{row['device']}; "
    flags = [f"`XLA_FLAGS={row['xla_flags']}`"] if row["xla_flags"] else []
    where = f"{device}{row['cpu']}, {row['cores']} cores"
    return ", ".join([where, f"JAX {row['jax']}", f"Python {row['python']}", *flags])


def table(rows: Sequence[Row], headings: Sequence[str]) -> str:
    """Markdown; columns without any value are left out."""
    shown = [heading for heading in headings if any(cell(row, heading) for row in rows)]
    return markdown(Table(shown, [[cell(row, heading) for heading in shown] for row in rows]))


def section(kind: str, results: Sequence[Row]) -> list[str]:
    """Heading, explanation, and a table per machine."""
    machines: dict[str, list[Row]] = {}
    for result in results:
        rows = [{**result, **record} for record in result["records"]]
        machines.setdefault(machine_line(result), []).extend(rows)
    title, columns = KINDS[kind]
    explanation = inspect.getdoc(measure.KINDS[kind]).split("\n\nArgs:")[0]
    headings = f"{SHAPE} | {columns} | commit | date".split(" | ")
    return [f"## {title}", explanation, *(f"On {name}:\n\n{table(rows, headings)}" for name, rows in machines.items())]


def render(results: Sequence[Row]) -> str:
    """The page."""
    parts = []
    for kind in KINDS:
        if found := [result for result in results if result["kind"] == kind]:
            parts += section(kind, found)
    return "\n\n".join(parts)


if __name__ == "__main__":
    readme.write("benchmarks", render(load()))
