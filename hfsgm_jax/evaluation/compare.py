"""Several runs side by side: what ``evaluate.py --compare`` writes. Only like is put beside like."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hfsgm_jax.config import flatten, load_config
from hfsgm_jax.evaluation.context import EvaluationError
from hfsgm_jax.evaluation.page import Picture, command, paper, picture, write_page
from hfsgm_jax.evaluation.page.captions import about, sample_caption
from hfsgm_jax.evaluation.page.curves import Curve, read_metrics, validation_curves
from hfsgm_jax.evaluation.page.tables import Cell, Table, markdown, number, published_cell, show, split_conditions
from hfsgm_jax.evaluation.records import MEASURED, Record, condition
from hfsgm_jax.evaluation.report import read_results, training_data
from hfsgm_jax.trace import Plan, Sets

PAGE = "compare.html"
# What must agree for two numbers to stand in one table, and what belongs to the run rather than to the measurement.
DATA = "source split scheme resize image_size sha256 binarize".split()
OF_THE_RUN = ("step", "dtype", "weights", "images_one_by_one")
LOWER, HIGHER = ("nelbo", "nll"), ("accuracy", "recognised")  # better
LONG = 30  # characters, from which on a row's heading wraps
FOLDED = 12  # rows, from which on a table is folded


class Run(NamedTuple):
    """A run to compare."""

    name: str
    folder: Path
    config: dict[str, Any]
    parameters: int
    lines: list[dict[str, Any]]  # of metrics.jsonl
    results: dict[str, list[Record]]

    @property
    def model(self) -> str:
        return paper.model_title(self.config["model"]["name"], self.config["model"].get("aggregate"))


class Group(NamedTuple):
    """A table of measurements on the same data."""

    title: str
    data: str
    table: Table
    folded: bool


def compare(folders: Sequence[Path], open_model: Callable[[Path], Any], out: Path | None = None) -> tuple[Path, str]:
    """Writes a page about several runs from what lies in their folders.

    Args:
      folders: of runs that have been evaluated, two or more.
      open_model: folder -> Flax module, whose parameters are counted.
      out: the page; default ``compare.html`` in the first folder.

    Returns:
      The page, and its tables as Markdown.

    Raises:
      EvaluationError, ConfigError: fewer than two runs, a folder that is no run, or one without results.
    """
    runs = read_runs(folders, open_model)
    tasks = dict.fromkeys(task for run in runs for task in run.results)
    groups = [group for task in tasks for group in _groups(task, runs)]
    out = runs[0].folder / PAGE if out is None else out
    path = write_page(
        "compare.html.j2",
        out,
        runs=_runs_table(runs),
        differences=_differences(runs),
        groups=groups,
        charts=_charts(runs),
        pictures=_pictures(runs),
    )
    shown = [("Runs", "", _runs_table(runs)), *((g.title, g.data, g.table) for g in groups if not g.folded)]
    return path, "\n\n".join("\n".join(filter(None, [f"{t} {d}".strip() + "\n", markdown(x)])) for t, d, x in shown)


def read_runs(folders: Sequence[Path], open_model: Callable[[Path], Any]) -> list[Run]:
    """The runs of these folders; see `compare`."""
    folders = list({folder.resolve(): folder for folder in folders}.values())
    if len(folders) < 2:
        raise EvaluationError("a comparison needs two or more different runs: --compare=runs/a,runs/b")
    configs = [load_config(folder).to_dict() for folder in folders]
    results = [read_results(folder)[0] for folder in folders]
    empty = [command(folder, ["likelihood", "sample"]) for folder, found in zip(folders, results) if not found]
    if empty:
        raise EvaluationError(
            "nothing to compare: these runs have no results in eval/ yet. First\n  " + "\n  ".join(empty)
        )
    names = [folder.resolve().name for folder in folders]
    names = [str(folder) if names.count(name) > 1 else name for folder, name in zip(folders, names)]
    return [
        Run(name, folder, config, _parameters(open_model(folder), config), read_metrics(folder), found)
        for name, folder, config, found in zip(names, folders, configs, results)
    ]


def _parameters(model: Any, config: Mapping[str, Any]) -> int:
    """Number of trainable parameters; computes shapes alone."""

    def init(key):
        images = jnp.zeros((1, 2, *config["image_shape"]))
        return model.init({"params": key, "sample": key}, Sets.of(images), Plan())

    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(jax.eval_shape(init, jax.random.key(0))["params"]))


# --- tables -----------------------------------------------------------------------------------


def _runs_table(runs: Sequence[Run]) -> Table:
    """What each run is."""
    columns = ["run", "model", "parameters", "objective", "trained on", "images", "minutes"]
    rows = []
    for run in runs:
        last = run.lines[-1] if run.lines else {}
        cells = [run.name, run.model, f"{run.parameters:,}", run.config["objective"]["name"], training_data(run.config)]
        rows.append([Cell(text, style="number" if i == 2 else "") for i, text in enumerate(cells)])
        rows[-1] += [Cell(text, style="number") for text in _spent(last)]
    return Table(columns, rows)


def _differences(runs: Sequence[Run]) -> Table:
    """The keys of the configs that differ, but for those of evaluation."""
    flat = [flatten(run.config) for run in runs]
    keys = [key for key in dict.fromkeys(key for config in flat for key in config) if not key.startswith("eval.")]
    keys = [key for key in keys if len({show(config.get(key, "")) for config in flat}) > 1]
    rows = [[Cell(key), *(Cell(show(config.get(key, ""))) for config in flat)] for key in keys]
    return Table(["key", *(run.name for run in runs)], rows)


def _spent(line: Mapping[str, Any]) -> list[str]:
    """Images and minutes of training at a line of metrics."""
    return [f"{line['images']:,}", f"{line['seconds'] / 60:.1f}"] if line else ["", ""]


def _groups(task: str, runs: Sequence[Run]) -> list[Group]:
    """A table per data set that a task was measured on."""
    by_data: dict[str, dict[str, dict[str, Record]]] = {}  # data -> measurement -> run -> record
    for run in runs:
        for record in run.results.get(task, []):
            if record.get("value") is None:
                continue
            data = condition({key: record.get(key) for key in DATA})
            cell = by_data.setdefault(data, {}).setdefault(_measurement(record), {})
            if run.name not in cell or cell[run.name].get("step", 0) <= record.get("step", 0):
                cell[run.name] = record
    make = _likelihood_table if task == "likelihood" else _task_table
    out = []
    for found in by_data.values():
        table, first = make(task, runs, list(found.values())), next(iter(next(iter(found.values())).values()))
        title, data = about(task)[0], ", ".join(f"{paper.label(k)} {show(first[k])}" for k in DATA if k in first)
        out.append(Group(title, data, table, len(table.rows) > FOLDED))
    return out


def _measurement(record: Record) -> str:
    """What makes two numbers of a data set the same measurement of two models."""
    return condition({key: value for key, value in record.items() if key not in (*DATA, *OF_THE_RUN)})


def _headings(measured: Sequence[Mapping[str, Record]]) -> tuple[list[str], str]:
    """A heading per measurement, of its name and what tells it from others of that name, and a line of the rest."""
    records = [next(iter(cell.values())) for cell in measured]
    hidden = {"name", "unit", *MEASURED, *DATA, *OF_THE_RUN}
    _, common = split_conditions(records, hidden - {"unit"})
    told, lines = {}, [_line(common)]
    for name in dict.fromkeys(str(record.get("name", "")) for record in records):
        varying, own = split_conditions([r for r in records if str(r.get("name", "")) == name], hidden | common.keys())
        told[name] = [key for key in paper.BOUND if key in own] + varying if name == "nll" else varying
        rest = {key: value for key, value in own.items() if key not in told[name]}
        lines += [f"of {_words(name)}: {_line(rest)}"] if rest else []
    headings = []
    for record in records:
        name = str(record.get("name", ""))
        own = [paper.describe(key, record[key]) for key in told[name] if record.get(key) is not None]
        headings.append(", ".join([_words(name), *own]))
    return headings, "; ".join(filter(None, lines))


def _line(conditions: Mapping[str, Any]) -> str:
    return ", ".join(f"{paper.label(key)} {show(value)}" for key, value in conditions.items())


def _words(name: str) -> str:
    return name.replace("_", " ")


def _likelihood_table(task: str, runs: Sequence[Run], measured: Sequence[Mapping[str, Record]]) -> Table:
    """Table 1 of the SCHA-VAE paper: a row per run, a column per bound, the paper's numbers beside them."""
    headings, common = _headings(measured)
    beside = [{run.name: _beside(task, run, cell) for run in runs if run.name in cell} for cell in measured]
    columns = ["run", "model", "parameters, M", "images", "minutes"]
    for heading, others in zip(headings, beside):
        columns += [heading, *(["paper"] if any(others.values()) else [])]
    notes, rows = [], []
    for run in runs:
        cells = [(cell, others) for cell, others in zip(measured, beside)]
        step = max((cell[run.name].get("step", 0) for cell, _ in cells if run.name in cell), default=None)
        if step is None:
            continue  # not measured on these data
        row = [Cell(run.name), Cell(run.model), Cell(f"{run.parameters / 1e6:.2f}", style="number")]
        row += [Cell(text, style="number") for text in _spent(_line_at(run, step))]
        for cell, others in cells:
            row.append(_value_cell(run, cell, notes))
            if any(others.values()):
                row.append(published_cell(others.get(run.name), notes))
        rows.append(row)
    return Table(columns, rows, common, notes)


def _beside(task: str, run: Run, cell: Mapping[str, Record]) -> paper.Published | None:
    """The published number beside a run's; beside bounds that differ in K alone, at the largest K."""
    records = [record for record in run.results[task] if record.get("value") is not None]
    return paper.beside(task, records, run.config)[records.index(cell[run.name])]


def _task_table(task: str, runs: Sequence[Run], measured: Sequence[Mapping[str, Record]]) -> Table:
    """A row per measurement, a column per run."""
    headings, common = _headings(measured)
    runs = [run for run in runs if any(run.name in cell for cell in measured)]
    notes: list[str] = []
    rows = [
        [Cell(heading, style="wrap" if len(heading) > LONG else ""), *(_value_cell(run, cell, notes) for run in runs)]
        for heading, cell in zip(headings, measured)
    ]
    return Table(["", *(run.name for run in runs)], rows, common, notes)


def _value_cell(run: Run, cell: Mapping[str, Record], notes: list[str]) -> Cell:
    if run.name not in cell:
        return Cell()
    record, note = cell[run.name], 0
    if record.get("images_one_by_one"):
        text = "Image by image: this model has no latents that a set shares."
        notes += [] if text in notes else [text]
        note = notes.index(text) + 1
    best = _best(cell) == record["value"]
    text = number(record["value"], record.get("standard_error"))
    return Cell(text, note, "number best" if best else "number")


def _best(cell: Mapping[str, Record]) -> float | None:
    """The best of several runs' values; None where there is no better and worse, or one run alone."""
    records = list(cell.values())
    if len(records) < 2 or not all(isinstance(record["value"], int | float) for record in records):
        return None
    name, values = records[0].get("name"), [record["value"] for record in records]
    return min(values) if name in LOWER else max(values) if name in HIGHER else None


def _line_at(run: Run, step: int) -> dict[str, Any]:
    """The last line of metrics up to a step."""
    return next((line for line in reversed(run.lines) if line["step"] <= step), {})


# --- charts and pictures ----------------------------------------------------------------------


def _charts(runs: Sequence[Run]) -> list[tuple[str, list[Curve]]]:
    """Validation curves of the runs that validate on the same data: (the data, charts)."""
    groups: dict[str, dict[str, list]] = {}
    for run in runs:
        binarize = run.config["data"].get("binarize")
        data = f"{training_data(run.config)}, binarize {binarize}, {run.config['eval'].get('val_sets')} validation sets"
        groups.setdefault(data, {})[run.name] = run.lines
    return [(data, curves) for data, lines in groups.items() if (curves := validation_curves(lines))]


def _pictures(runs: Sequence[Run]) -> list[tuple[str, list[Picture]]]:
    """Every kind of sample: (what it is, a picture per run)."""
    kinds: dict[str, dict[tuple[str, str], Picture]] = {}
    for run in runs:
        for record in run.results.get("sample", []):
            name = str(record.get("name", ""))
            if name == "all" or not record.get("pictures"):  # "all" shows the others once more
                continue
            path, source = record["pictures"][0], record.get("source") or run.config["data"]["source"]
            text = f"{run.name}: {run.model}, {source}."
            kinds.setdefault(name, {})[run.name, path] = picture(run.folder, path, text)
    return [(sample_caption(name), list(found.values())) for name, found in kinds.items()]
