"""``report.html``: one self-contained page of what a run's folder holds."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from hfsgm_jax import processes
from hfsgm_jax.config import flatten
from hfsgm_jax.evaluation.context import Evaluation
from hfsgm_jax.evaluation.likelihood import estimator_text
from hfsgm_jax.evaluation.page import Picture, command, paper, picture, write_page
from hfsgm_jax.evaluation.page.captions import about, caption, sample_caption
from hfsgm_jax.evaluation.page.curves import read_metrics, training_curves
from hfsgm_jax.evaluation.page.tables import Table, folded_parts, number, show, split_conditions, values_table
from hfsgm_jax.evaluation.records import Record

PAGE = "report.html"
KINDS = ("context", "reconstruction", "conditional", "refined", "unconditional")  # of grids, as they are shown


class Section(NamedTuple):
    """A task's part of the page."""

    task: str
    title: str
    about: str
    table: Table | None
    pictures: list[Picture]
    papers: list[dict[str, Any]]
    folded: list[tuple[str, str]]
    seconds: float = 0
    problem: str = ""


def check(evaluation: Evaluation) -> None:
    """A report can be made of any run."""


def report(evaluation: Evaluation) -> Iterator[tuple[str, Record]]:
    """Writes ``report.html`` into the run's folder and yields where it is."""
    parameters = sum(leaf.size for leaf in jax.tree.leaves(evaluation.variables.get("params", {})))
    if processes.is_writer():
        write_report(evaluation.workdir, {"parameters": parameters, "step": evaluation.step})
    yield "report", {"pictures": [PAGE], "parameters": parameters}


def write_report(workdir: Path, known: Mapping[str, Any] | None = None) -> Path:
    """Writes the report of a run's folder from its files alone.

    Args:
      workdir: the folder; any part of it but ``config.json`` may be missing.
      known: ``parameters``, their number, and the ``step`` of the checkpoint, where known.
    """
    known = dict(known or {})
    config = json.loads((workdir / "config.json").read_text())
    results, problems = read_results(workdir)
    lines = read_metrics(workdir)
    missing = [task for task in _tasks() if task not in results and task not in problems]
    sections = [_section(workdir, task, records, config) for task, records in results.items()]
    sections += [Section(task, *about(task), None, [], [], [], problem=why) for task, why in problems.items()]
    return write_page(
        "report.html.j2",
        workdir / PAGE,
        name=workdir.resolve().name,
        model=paper.model_title(config["model"]["name"], config["model"].get("aggregate")),
        data=training_data(config),
        tiles=_tiles(results.get("likelihood", []), results.get("sample", []), config),
        facts=_facts(known, lines, workdir),
        curves=training_curves(lines),
        sections=sections,
        missing=[(about(task)[0], command(workdir, [task])) for task in missing],
        all_missing=command(workdir, [*missing, "report"]),
        grids=_latest_grids(workdir),
        config=_grouped(config),
    )


def read_results(workdir: Path) -> tuple[dict[str, list[Record]], dict[str, str]]:
    """Task -> records of ``eval/TASK.json``, tasks in their order and unknown ones last; task -> why it has none."""
    files = {path.stem: path for path in sorted((workdir / "eval").glob("*.json")) if path.stem != "report"}
    results, problems = {}, {}
    for task in [*(task for task in _tasks() if task in files), *(task for task in files if task not in _tasks())]:
        try:
            records = json.loads(files[task].read_text())
        except (OSError, ValueError) as error:
            problems[task] = f"{files[task].name} cannot be read: {error}"
            continue
        if isinstance(records, list) and records and all(isinstance(record, dict) for record in records):
            results[task] = records
        else:
            problems[task] = f"{files[task].name} holds no records"
    return results, problems


def training_data(config: Mapping[str, Any]) -> str:
    """A line about the data a model was trained on."""
    data = config["data"]
    size = data["set_size"]
    images = "{} to {}".format(*size) if isinstance(size, list | tuple) else size
    pixels = f"{data['image_size']}×{data['image_size']}"
    return f"{data['source']} {data['split']}, resize {data['resize']}, {pixels}, sets of {images}"


def _section(workdir: Path, task: str, records: list[Record], config: Mapping[str, Any]) -> Section:
    valued = [record for record in records if record.get("value") is not None]
    varying, _ = split_conditions([record for record in records if record.get("pictures")])
    drawn: dict[str, list[Record]] = {}  # picture -> the records that name it
    for record in records:
        for path in record.get("pictures") or ():
            drawn.setdefault(str(path), []).append(record)
    pictures = [picture(workdir, path, caption(task, path, named, varying)) for path, named in drawn.items()]
    table = values_table(valued, paper.beside(task, valued, config)) if valued else None
    papers, folded = paper.related(task, records), folded_parts(records)
    seconds = [record["seconds"] for record in records if isinstance(record.get("seconds"), int | float)]
    return Section(task, *about(task), table, pictures, papers, folded, max(seconds, default=0))


def _tasks() -> list[str]:
    from hfsgm_jax.evaluation import TASKS  # which this module is part of

    return [task for task in TASKS if task != "report"]


def headline(records: Sequence[Record], config: Mapping[str, Any]) -> dict[str, Record]:
    """``nelbo`` and the ``nll`` of most samples among records of `likelihood`: of the run's own data and test classes
    where there are such, at the latest step, of most sets."""

    def rank(record):
        own = record.get("source") == config["data"]["source"], record.get("split") == "test"
        return own, record.get("step", 0), record.get("num_sets", 0), record.get("importance_samples") or 0

    named = {name: [r for r in records if r.get("name") == name] for name in ("nelbo", "nll", "independent_pixels")}
    return {name: max(found, key=rank) for name, found in named.items() if found}


def _tiles(records: list[Record], samples: list[Record], config: Mapping[str, Any]) -> list[dict[str, str]]:
    """The headline's numbers: title, value, the conditions that give it its meaning."""
    tiles = []
    for name, record in headline(records, config).items():
        about = [record.get("source"), record.get("split"), f"resize {record.get('resize')}"]
        about.append(f"{record.get('num_sets')} sets of {record.get('set_size')}")
        if name == "nll":
            about.append(estimator_text(record))
        title = {"nelbo": "NELBO", "nll": "NLL", "independent_pixels": "Independent pixels"}[name]
        other = paper.published("likelihood", record, config)
        beside = f"paper: {other.text} ({other.remark})" if other else ""
        value = number(record.get("value"), record.get("standard_error"))
        tiles.append(dict(title=title, value=value, unit=str(record.get("unit", "")), about=", ".join(map(str, about))))
        tiles[-1]["beside"] = beside
    named = [r for r in samples if r.get("name") == "recognised" and r.get("kind", "conditional") == "conditional"]
    for record in named[-1:]:
        value = number(record.get("value"), record.get("standard_error"))
        about = f"of new images named rightly among {record.get('ways')} classes; {record.get('classifier', '')}"
        tiles.append(dict(title="Recognised", value=value, unit="fraction", about=about, beside=""))
    return tiles


def _facts(known: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], workdir: Path) -> list[tuple[str, str]]:
    """What is known of training and of the machine that made this page."""
    facts = []
    if "step" in known:
        facts.append(("checkpoint evaluated", f"step {known['step']:,}"))
    if "parameters" in known:
        facts.append(("parameters", f"{known['parameters']:,}"))
    if lines:
        last = lines[-1]
        facts.append(
            ("trained", f"{last['step']:,} steps, {last['images']:,} images, {last['seconds'] / 60:.1f} minutes")
        )
        speeds = [line["images_per_second"] for line in lines if "images_per_second" in line]
        facts += [("speed", f"{sorted(speeds)[len(speeds) // 2]:,.0f} images a second (median)")] if speeds else []
        facts.append(("skipped steps", f"{last.get('skipped', 0):,}"))
    steps = sorted((int(p.name) for p in (workdir / "checkpoints").glob("*") if p.name.isdigit()), reverse=True)
    facts += [("checkpoints kept", ", ".join(f"{step:,}" for step in steps))] if steps else []
    device = jax.devices()[0]
    facts.append(("evaluated on", f"{len(jax.devices())} × {device.device_kind}, JAX {jax.__version__}"))
    return facts


def _latest_grids(workdir: Path) -> list[Picture]:
    """The sample grids that training drew last, ``samples/STEP_KIND.png``."""
    found = [path.stem.partition("_") for path in (workdir / "samples").glob("*_*.png")]
    last = max((step for step, _, _ in found), default="")
    kinds = sorted(kind for step, _, kind in found if step == last)
    kinds.sort(key=lambda kind: KINDS.index(kind) if kind in KINDS else len(KINDS))
    number = last.lstrip("0") or "0"
    return [
        picture(workdir, f"samples/{last}_{kind}.png", f"{sample_caption(kind)} Validation classes, step {number}.")
        for kind in kinds
    ]


def _grouped(config: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Section -> (key, value as text); single keys under ``general``."""
    out: dict[str, list[tuple[str, str]]] = {}
    for key, value in flatten(config).items():
        section, _, name = key.rpartition(".")
        out.setdefault(section or "general", []).append((name, show(value)))
    return out
