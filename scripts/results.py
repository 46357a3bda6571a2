"""Keeps the results of runs in results/ and renders them: docs/curves.png, and tables in README.md and docs/results.md.

python -m scripts.results [runs/NAME ...]   # keeps these runs' results, then renders all that are kept
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from hfsgm_jax.config import load_config
from hfsgm_jax.evaluation import plots
from hfsgm_jax.evaluation.page import paper
from hfsgm_jax.evaluation.page.curves import IMAGES, MINUTES, NATS, draw, points
from hfsgm_jax.evaluation.records import Result, read_results
from hfsgm_jax.evaluation.tables import Table, markdown, number, split_conditions, table
from hfsgm_jax.run_folder import read_metrics
from hfsgm_jax.shipped import pretrained
from scripts import readme
from scripts.machine import ROOT, machine

RESULTS, CURVES = ROOT / "results", ROOT / "docs" / "curves.png"
COLUMNS = {"nelbo": "NELBO", "nll": "NLL", "whole": "NLL of whole classes", "independent_pixels": "independent pixels"}
COLUMNS["recognised"] = "recognised of {ways}"
DATA = "source", "split", "scheme", "resize", "image_size"
KEPT = ("config.json", "metrics.jsonl", "eval/*.json")


def keep(run: Path, name: str = "") -> Path:
    """Copies the results of a run into results/NAME (default: that of its folder), with their provenance."""
    folder = RESULTS / (name or run.name)
    folder.mkdir(parents=True, exist_ok=True)
    for path in (path for pattern in KEPT for path in run.glob(pattern)):
        shutil.copyfile(path, folder / path.name)
    # The last commit before the config was written, which is when training starts.
    started = f"--before={int((run / 'config.json').stat().st_mtime)}"
    found = subprocess.run(["git", "rev-list", "-1", started, "HEAD"], cwd=ROOT, capture_output=True, text=True)
    (folder / "machine.json").write_text(json.dumps(machine() | {"commit": found.stdout.strip()[:12]}, indent=1) + "\n")
    return folder


def metrics(folder: Path) -> list[Result]:
    """Metrics of a run; images and seconds with those of the run that it started from."""
    start = json.loads((folder / "config.json").read_text())["train"].get("start")
    before = metrics(folder.parent / start)[-1] if start else dict(images=0, seconds=0.0)
    return [line | {key: line[key] + before[key] for key in ("images", "seconds")} for line in read_metrics(folder)]


def rank(record: Result) -> tuple[int, int]:
    """Of how many test sets and importance samples a number is."""
    return record.get("num_sets", 0), record.get("importance_samples", 0)


def numbers(folder: Path) -> list[Result]:
    """The numbers of a run in the table; of several, that of most sets and samples."""
    records = read_results(folder / "likelihood.json")
    own = dict(kind="conditional", temperature=1.0)
    records += [record for record in read_results(folder / "sample.json") if own.items() <= record.items()]
    named = lambda record: "whole" if record["name"] == "nll" and record["set_size"] == 20 else record["name"]
    small = [record for record in records if record.get("set_size") != 20 or record["name"] == "nll"]
    widest = {named(record): record for record in sorted(small, key=rank)}
    config, where = (json.loads((folder / name).read_text()) for name in ("config.json", "machine.json"))
    test, optimizer = widest["nelbo"], config["optimizer"]
    last = [line for line in metrics(folder) if line["step"] <= test["step"]][-1]
    run = {
        "run": f"`{folder.name}`",
        "test data": f"{test['source']} {test['scheme']}, {test['resize']}, sets of {test['set_size']}",
        "sets per batch": config["data"]["sets_per_batch"],
        "optimizer": f"{optimizer['name']} {optimizer['learning_rate']:g}",
        "images seen": f"{last['images']:,}",
        "minutes": f"{last['seconds'] / 60:.1f}",
        "machine": f"{where['cpu']}, cores: {where['cores']}" if where["device"] == "cpu" else where["device"],
        "K of NLL": widest["nll"]["importance_samples"],
    }
    measured = lambda record: {key: record.get(key) for key in ("value", "standard_error")}
    return [run | {"name": COLUMNS[n].format(**widest[n])} | measured(widest[n]) for n in COLUMNS if n in widest]


def beside_papers() -> dict[tuple[str, ...], Result]:
    """Our numbers that have one of a paper beside them, by run, name and the paper's number.

    The shipped models come first, and no run that one of them started from is there. Of several numbers beside the
    same one of a paper: that of most test sets, then of most samples.
    """
    records, runs = {}, [path.parent.name for path in RESULTS.glob("*/likelihood.json")]
    starts = {json.loads((RESULTS / name / "config.json").read_text())["train"].get("start") for name in runs}
    for name in [*pretrained(), *sorted({*runs} - {*pretrained()} - starts)]:
        config, lines = load_config(RESULTS / name).to_dict(), metrics(RESULTS / name)
        for task in ("likelihood", "classify"):
            measured = [r for r in read_results(RESULTS / name / f"{task}.json") if r.get("value") is not None]
            beside = [r for r in paper.beside(task, measured, config, lines) if r["paper"]]
            for record in sorted(beside, key=rank):
                records[name, record["name"], record["paper"].table, record["paper"].text] = record
    return records


def ours_and_theirs(record: Result) -> tuple[str, str]:
    """Both numbers; the paper's in parentheses where it is of other data."""
    other = record["paper"]
    return number(record["value"], record["standard_error"]), other.text if other.comparable else f"({other.text})"


def summary() -> str:
    """A row per run, with the names of all that differs, as Markdown."""
    found: dict[str, dict[str, str]] = {}
    differs: dict[str, dict[str, None]] = {}
    for (name, *_), record in beside_papers().items():
        found.setdefault(name, {})[measure_of(record)] = " / ".join(ours_and_theirs(record))
        differs.setdefault(name, {}).update(dict.fromkeys(record["paper"].differs))
    measures = list(dict.fromkeys(measure for cells in found.values() for measure in cells))
    rows = [[f"`{n}`", *(found[n].get(m, "") for m in measures), ", ".join(differs[n])] for n in found]
    return markdown(Table(["run", *measures, "what differs"], rows))


def against_papers() -> str:
    """A row per number, with what differs, from the paper's condition to ours, as Markdown."""
    records, rows = beside_papers(), []
    for (name, *_), record in records.items():
        other = record["paper"]
        rows.append([f"`{name}`", measure_of(record), *ours_and_theirs(record), other.table, other.remark])
    _, common = split_conditions([{key: r[key] for key in DATA} for r in records.values()], ())
    head = ["model", "measure", "ours", "paper", "of", "what differs (theirs → ours)"]
    return markdown(Table(head, rows, ", ".join(f"{key.replace('_', ' ')} {common[key]}" for key in common)))


def measure_of(record: Result) -> str:
    """``"NLL, sets of 5"``, ``"20-way 1-shot accuracy"``."""
    if record["name"] == "accuracy":
        within = ", within alphabets" * (record["classes"] == "within alphabet")
        return "{ways}-way {shots}-shot accuracy".format(**record) + within
    whole = "whole classes" if record["set_size"] == 20 else f"sets of {record['set_size']}"
    return f"{record['name'].upper()}, {whole}"


def curves(folders: list[Path]) -> None:
    """Draws validation NELBO of runs against images seen and against minutes."""
    figure, axes = plots.figure(2, sharey=True)
    for axis, x in zip(axes, (IMAGES, MINUTES)):
        draw(axis, {folder.name: points(metrics(folder), x, "val/nelbo") for folder in folders}, x, NATS)
    plots.save(figure, CURVES)


def redrawn() -> str:
    """How the page's pen compares with the data's own images, as Markdown."""
    found = json.loads((RESULTS / "redrawn" / "results.json").read_text())
    own = "{ways}-way {shots}-shot accuracy of `{model}`".format(**found)
    rows = []
    for parts, x in found["accuracy"].items():
        shown, named = (part.split()[0] for part in parts.split(", "))
        row = {"images shown": shown, "images named": named, own: number(x["value"], x["standard_error"])}
        rows.append(row | {"difference from the data's own": number(x["increase"], x["increase_error"])})
    return readme.table(rows)


def main(runs: list[str]) -> None:
    for run in runs:
        keep(Path(run))
    kept = sorted(path.parent for path in RESULTS.glob("*/likelihood.json"))
    curves(kept)
    readme.write("results", markdown(table([number for folder in kept for number in numbers(folder)], across="name")))
    readme.write("papers", summary())
    readme.write("papers_in_full", against_papers())
    readme.write("redrawn", redrawn())


if __name__ == "__main__":
    main(sys.argv[1:])
