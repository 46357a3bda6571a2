"""The papers' numbers (``paper.json``) beside records of the same measurement."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hfsgm_jax.evaluation.records import Result, conditions_of
from hfsgm_jax.evaluation.tables import label, show

# Conditions that must agree for a published number to be shown at all, where its entry names them.
HARD = set("name source scheme split set_size ways shots method classes augmented model aggregate".split())
TEST_CLASSES = {"back_eval": "evaluation alphabets", "alphabet": "evaluation alphabets"}
TEST_CLASSES |= dict.fromkeys(("ns", "vhe_1200"), "423 of all alphabets")
# Conditions that make two numbers incomparable, and bounds of different tightness; others (how a model was trained, the
# number of test sets) are said.
DATA = {"resize", "trained_on", "test_classes"}
SAMPLES, LENGTH = "importance_samples", "training_images"
AUGMENTATION = dict(affine="small warps", flip="flips", rotate="rotations")
Lines = Sequence[Mapping[str, Any]]
BOUND = {"estimator", SAMPLES, "importance_samples_z"}
# The papers' tables: table, task, unit, conditions, columns, rows of numbers as text.
TABLES = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
TITLES = {"bns": "bNS", "scha_vae": "SCHA-VAE", "pixelcnn_vhe": "PixelCNN VHE"}


class Published(NamedTuple):
    """A paper's number beside a record.

    Attributes:
      table: its place in the paper.
      text: the number, with its error if there is one.
      remark: the conditions that differ, from the paper's to ours, and their consequence, or "same protocol".
      comparable: whether the data are the same.
      differs: the names of the conditions that differ.
    """

    table: str
    text: str
    remark: str
    comparable: bool
    differs: tuple[str, ...]


def model_title(config: Mapping[str, Any]) -> str:
    """``"SCHA-VAE (LAG)"``, from a config's section ``model``."""
    title = TITLES.get(config["name"], config["name"].upper().replace("_", " "))
    aggregate = config.get("aggregate")
    return f"{title} ({'LAG' if aggregate == 'lag' else aggregate})" if aggregate else title


def published(task: str, record: Result, config: Mapping[str, Any], images: int | None = None) -> Published | None:
    """The paper's number of a record's model whose protocol is nearest, or None.

    Data, split, set size and method must agree; any other difference is in its ``remark``.

    Args:
      images: that the model has been trained on; fewer than the paper's is a difference, more is none.
    """
    ours, found = _run_conditions(config) | record, []
    ours |= {"test_sets": _test_sets(record), LENGTH: images or "unknown"}
    ours["test_classes"] = TEST_CLASSES.get(record.get("scheme"), "unknown")
    for table, theirs, hard, text in _numbers(task):
        enough = {LENGTH} if (images or 0) >= theirs.get(LENGTH, 0) else set()
        differs = [key for key, value in theirs.items() if ours.get(key) != value and key not in enough]
        if not hard & {*differs}:
            remark = _remark(differs, theirs, ours) + (f" ({table['note']})" if "note" in table else "")
            names = tuple(map(label, differs))
            found.append((len(differs), Published(table["table"], text, remark, not DATA & {*differs}, names)))
    return min(found, key=lambda item: item[0])[1] if found else None


def beside(task: str, records: Sequence[Result], config: Mapping[str, Any], lines: Lines = ()) -> list[Result]:
    """The records, with `published` as ``paper``; of bounds that differ in K alone, the one of the largest K has it.

    Args:
      lines: of the run's metrics, which say how many images its training saw until the record's step.
    """
    until = lambda record: (line["images"] for line in lines if line["step"] <= record.get("step", 0))
    same = lambda record: conditions_of({key: value for key, value in record.items() if key != SAMPLES})
    largest = {same(record): record for record in sorted(records, key=lambda record: record.get(SAMPLES, 0))}
    number = lambda record: published(task, record, config, max(until(record), default=None))
    return [{**record, "paper": number(record) if record is largest[same(record)] else None} for record in records]


def _run_conditions(config: Mapping[str, Any]) -> dict[str, Any]:
    """The conditions that a config adds to those of its records: the model and its training."""
    model, data = config["model"], config["data"]
    own = dict(model=model["name"], aggregate=model.get("aggregate"), objective=config["objective"]["name"])
    own["pixels"] = "autoregressive" if model.get("pixelcnn_layers") else "independent"
    own |= dict(trained_on=data["source"], training_classes=data["split"], augmented=False)
    changes = ", ".join(words for key, words in AUGMENTATION.items() if data.get(key))
    if changes and (share := data.get("augmented", 1.0)) < 1:
        changes += f" of {share:.0%} of the sets"
    changes = ", ".join(filter(None, ["flips and turns as classes" if data["dihedral"] else "", changes])) or "none"
    return own | {"trained_set_size": int(np.max(data["set_size"])), "training_augmentation": changes}


def _test_sets(record: Result) -> str:
    """The share of the test sets that a number is of."""
    number, there = record.get("num_sets"), record.get("available_sets")
    if number is None or number == there:
        return "all" if there else "unknown"
    return f"{number:,} of {there:,}" if there else f"{number:,}"


def _numbers(task: str) -> Iterator[tuple[dict, dict[str, Any], set[str], str]]:
    """Every number of our models in a task's tables: the table, its conditions, those that must agree, its text."""
    for table in (table for table in TABLES if table["task"] == task):
        for row in (row for row in table["rows"] if "model" in row):
            match = {key: value for key, value in row.items() if key not in ("values", "label")}
            for column, text in zip(table["columns"], row["values"]):
                yield table, {**table["conditions"], **column, **match}, HARD | ({"objective"} & {*row}), text


def _remark(differs: list[str], theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """``"K 1000 → 10, test sets all → 320 of 2,636"``, theirs and ours."""
    if not differs:
        return "same protocol"
    pairs = (f"{label(key)} {show(theirs[key])} → {show(ours.get(key, 'unknown'))}" for key in differs)
    bound = ": bounds of different tightness" if BOUND & {*differs} else ""
    return ", ".join(pairs) + (": not comparable" if DATA & {*differs} else bound)
