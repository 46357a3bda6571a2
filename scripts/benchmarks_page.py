"""Renders benchmarks/results/**/*.json as docs/benchmarks.md: a table per kind of measurement and machine.

python -m scripts.benchmarks_page
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from scripts.machine import ROOT

RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "benchmarks.md"
MACHINE = ("cpu", "cores", "device", "platform", "python", "jax", "xla_flags")
Row = dict[str, Any]
Column = tuple[str, Callable[[Row], Any]]

HEAD = """# Benchmarks

Written by `make bench` from the files in `benchmarks/results/`, which hold the commands that made them (all but the
oldest). `make measure` measures this machine; nothing else should run meanwhile. Rates are medians, with
quartiles in brackets. A `+` after a commit: files had been changed since. Sizes are sets × images of each.
"""


def field(name: str, scale: float = 1.0) -> Callable[[Row], Any]:
    """A number of the file in another unit, or any value as it is; None where it has none."""
    return lambda row: row[name] * scale if scale != 1.0 and row.get(name) is not None else row.get(name)


def rate(name: str) -> Callable[[Row], str]:
    """A median and, in brackets, its quartiles (where there are some)."""

    def cell(row: Row) -> str:
        quartiles = row.get(f"{name}_quartiles")
        spread = f" [{', '.join(map(text, quartiles))}]" if quartiles else ""
        return text(row.get(name)) + spread

    return cell


def config(row: Row) -> str:
    """Name of the config, and what was changed in it that has no column of its own."""
    shown = ("data.sets_per_batch", "model.dtype", "train.devices")
    changes = [f"{k}={v}" for k, v in row.get("overrides", {}).items() if k not in shown]
    name = str(row.get("config", "")).removeprefix("configs/").replace(".py", "")
    return " ".join(f"`{part}`" for part in [name, *changes])


def sizes(rows: str) -> Callable[[Row], str]:
    """Sets × images of each."""
    return lambda row: f"{row[rows]} × {text(row['set_size'])}" if rows in row else ""


def share(row: Row) -> str:
    return f"{row['share_of_peak']:.1%}" if "share_of_peak" in row else ""


def percent(name: str) -> Callable[[Row], str]:
    return lambda row: f"{row[name]:.0%}"


def peak(row: Row) -> Any:
    """Peak memory: of the device, or else of the process."""
    return row.get("peak_device_memory_gib", row.get("peak_memory_gib"))


CONFIG = ("config", config)
SHAPE = (CONFIG, ("sets", sizes("sets_per_batch")), ("dtype", field("dtype")), ("devices", field("devices")))
DRAWN = (CONFIG, ("sets", sizes("sets")), ("dtype", field("dtype")), ("devices", field("devices")))
MEMORY = (("peak GiB", peak), ("program GiB", field("program_memory_gib")))
COMPILE = ("compile s", field("compile_seconds"))
# Kind -> heading, what the numbers are, columns. Kinds that are not here are rendered field by field.
KINDS: dict[str, tuple[str, str, Sequence[Column]]] = {
    "train_step": (
        "Training step",
        "Data included, as train.py runs it. Model FLOP: XLA's count for one step of the whole batch before it "
        "optimises the program. Peak: what dense square matrix products reach on the same devices in the same dtype "
        "at JAX's default precision, measured in the same process (on a CPU a matrix product may use all cores, also "
        "where the step has fewer devices). Peak GiB: of the device; of a CPU, of the process, compilation "
        "included. Program GiB: arguments, results and temporaries of the compiled step on a device.",
        (
            *SHAPE,
            ("images/s", rate("images_per_second")),
            ("ms per step", field("seconds_per_step", 1e3)),
            ("model GFLOP/s", field("model_flops_per_second", 1e-9)),
            ("peak GFLOP/s", field("matmul_flops_per_second", 1e-9)),
            ("share", share),
            *MEMORY,
            COMPILE,
            ("parameters, M", field("parameters", 1e-6)),
        ),
    ),
    "weak_scaling": (
        "Weak scaling of the training step",
        "As many sets per device on 1, 2, 4, … devices. Efficiency: images/s over those of one device, over the number "
        "of devices. The devices of a CPU share its cores, caches and memory: more devices than cores measure nothing, "
        "and what one device already does on several cores cannot become faster.",
        (
            *SHAPE,
            ("images/s", rate("images_per_second")),
            ("efficiency", percent("efficiency")),
            ("ms per step", field("seconds_per_step", 1e3)),
            ("program GiB", field("program_memory_gib")),
            COMPILE,
        ),
    ),
    "sampling": (
        "Sampling",
        "New images of a class given a context, all of a class at once, random weights. The loop over pixels of "
        "autoregressive decoders is compiled and keeps what it computed.",
        (
            *DRAWN,
            ("new images per set", field("num")),
            ("images/s", rate("images_per_second")),
            ("ms per image", field("milliseconds_per_image")),
            *MEMORY,
            COMPILE,
        ),
    ),
    "data": (
        "Data against the step's consumption",
        "Sets per second drawn on the device from data that lie there, read from disk, and consumed by the "
        "training step; a ratio is the data's rate over the step's. Drawing on the device is part of the step, of "
        "which it takes 1 / ratio; reading goes on beside it and holds it up only below 1.",
        (
            *SHAPE,
            ("source", field("source")),
            ("step sets/s", rate("step_sets_per_second")),
            ("device sets/s", rate("device_sets_per_second")),
            ("ratio", field("device_ratio")),
            ("streamed sets/s", rate("streamed_sets_per_second")),
            ("ratio", field("streamed_ratio")),
        ),
    ),
    "importance_sampling": (
        "Importance sampling",
        "The joint importance-weighted bound of random sets, random weights. A sample-image is one importance sample "
        "of one image; memory should not grow with K.",
        (
            *DRAWN,
            ("K", field("samples")),
            ("at once", field("chunk")),
            ("sample-images/s", field("sample_images_per_second")),
            ("peak GiB", peak),
            COMPILE,
        ),
    ),
    "torch_peer": (
        "The same model in PyTorch",
        "Training steps of one SCHA-VAE, ours and PyTorch's variants in turns on the same cores, and the seconds of "
        "all cores that an image costs. Start: until two steps are done, compilation included.",
        (
            CONFIG,
            ("sets", sizes("sets_per_batch")),
            ("dtype", field("dtype")),
            ("variant", field("name")),
            ("images/s", rate("images_per_second")),
            ("CPU ms per image", field("cpu_seconds_per_image", 1e3)),
            ("start s", field("seconds_to_start")),
            ("PyTorch", field("torch")),
        ),
    ),
}
LAST = (("commit", field("commit")), ("date", field("date")))


def text(value: Any) -> str:
    """A value as a cell: three significant digits, thousands apart, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value))
    return str(value).replace("|", "\\|").replace("\n", " ")


def load(folder: Path = RESULTS) -> list[Row]:
    """All results, with ``name``: the path of the file in the folder, without its ending.

    Raises:
      ValueError: a file is not a JSON object; names it.
    """
    found = []
    for path in sorted(folder.rglob("*.json")):
        try:
            result = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"{path} is not JSON ({error})") from None
        if not isinstance(result, dict):
            raise ValueError(f"{path} is not a JSON object: a benchmark writes one with its kind, numbers and machine")
        found.append({"kind": kind_of(result), **result, "name": str(path.relative_to(folder).with_suffix(""))})
    return found


def kind_of(result: Row) -> str:
    """The kind of files from before they named it."""
    return "importance_sampling" if "sample_images_per_second" in result else "train_step"


def rows_of(result: Row) -> list[Row]:
    """One row, or one for each object of the lists (or named objects) of objects in a file, with all else it says."""
    rows = []
    for key, value in result.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows += [{**result, **point} for point in value]
        elif isinstance(value, dict) and value and all(isinstance(point, dict) for point in value.values()):
            rest = {k: v for k, v in result.items() if k != key}
            rows += [{**rest, "name": name, **point} for name, point in value.items()]
    return rows or [result]


def flat(row: Row, prefix: str = "") -> Row:
    """Nested objects as ``a.b``; lists of objects, which are rows of their own, left out."""
    result = {}
    for key, value in row.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{key}.")
        elif not (isinstance(value, list) and value and isinstance(value[0], dict | list)):
            result[prefix + key] = value
    return result


def machine_line(row: Row) -> str:
    """What a measurement ran on."""
    get = lambda name: row.get(name) or "?"
    processor = f"{get('cpu')}, {get('cores')} cores"
    device = "" if row.get("platform") in ("cpu", None) else f"{row['device']}; "
    flags = [f"`XLA_FLAGS={row['xla_flags']}`"] if row.get("xla_flags") else []
    return ", ".join([device + processor, f"JAX {get('jax')}", f"Python {get('python')}", *flags])


def table(rows: Iterable[Row], columns: Sequence[Column]) -> str:
    """Markdown; columns without any value are left out."""
    cells = [[text(value(row)) for _, value in columns] for row in rows]
    used = [n for n in range(len(columns)) if any(line[n] for line in cells)]
    lines = [[columns[n][0] for n in used], ["---"] * len(used), *([line[n] for n in used] for line in cells)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plain_table(rows: Sequence[Row]) -> str:
    """Of a kind that nothing here knows: every field a column, those that are the same in all rows in a line above."""
    rows = [{k: v for k, v in flat(row).items() if k not in (*MACHINE, "kind", "command")} for row in rows]
    names = list(dict.fromkeys(name for row in rows for name in row))
    same = [n for n in names if n != "name" and all(n in row and row[n] == rows[0][n] for row in rows)]
    common = ", ".join(f"{name} {text(rows[0][name])}" for name in same if text(rows[0][name]))
    columns = [(name, field(name)) for name in dict.fromkeys(["name", *names]) if name not in same]
    return "\n\n".join([f"In all rows: {common}."] * bool(common) + [table(rows, columns)])


def section(kind: str, results: Sequence[Row]) -> list[str]:
    """Heading, explanation, and a table per machine."""
    title, explanation, columns = KINDS.get(kind, (kind.replace("_", " ").capitalize(), "", ()))
    parts = [f"## {title}", explanation]
    machines: dict[str, list[Row]] = {}
    for result in results:
        machines.setdefault(machine_line(result), []).extend(rows_of(result))
    for machine, rows in machines.items():
        body = table(rows, (*columns, *LAST)) if columns else plain_table(rows)
        parts += [f"On {machine}:", body]
    return [part for part in parts if part]


def render(results: Sequence[Row]) -> str:
    """The page."""
    kinds = list(dict.fromkeys([*KINDS, *sorted(result["kind"] for result in results)]))
    of_kind = {kind: [result for result in results if result["kind"] == kind] for kind in kinds}
    parts = [HEAD.strip(), *(p for kind, found in of_kind.items() if found for p in section(kind, found))]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    page = render(load())
    PAGE.write_text(page)
    print(f"{PAGE.relative_to(ROOT)}: {page.count('## ')} kinds of measurements")


if __name__ == "__main__":
    main()
