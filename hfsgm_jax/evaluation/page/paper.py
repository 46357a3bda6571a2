"""The papers' numbers (``paper.json``), and which of them a record may stand beside."""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hfsgm_jax.config import flatten
from hfsgm_jax.evaluation.records import condition

# What must agree for a published number to be shown at all, where its entry names it.
HARD = "name source scheme split set_size ways shots method classes augmented model aggregate".split()
# What makes two numbers incomparable, and what makes them bounds of different tightness; other conditions
# (the set size in training, the objective, unless a table's rows are objectives) are what is being compared.
DATA = ("resize", "trained_on", "training_classes")
SAMPLES = "importance_samples"
BOUND = ("estimator", "importance_samples", "importance_samples_z")
LABELS = {
    "importance_samples": "K",
    "importance_samples_z": "K over z",
    "trained_set_size": "set size in training",
    "trained_on": "trained on",
    "training_classes": "training classes",
}
SPEAKING = ("name", "method", "classes", "estimator")  # their values need no label
TITLES = {
    "vae": "VAE",
    "bns": "bNS",
    "scha_vae": "SCHA-VAE",
    "pixelcnn_vhe": "PixelCNN VHE",
    "hierarchical_vhe": "Hierarchical VHE",
    "factorial_vhe": "Factorial VHE",
}


class Published(NamedTuple):
    """A paper's number beside a record.

    Attributes:
      table: where it stands.
      text: the number, with its error if there is one.
      remark: the conditions that differ and what that means, or "same protocol".
      comparable: whether the data are the same.
    """

    table: str
    text: str
    remark: str
    comparable: bool


@functools.cache
def tables() -> list[dict[str, Any]]:
    """The papers' tables: ``table``, ``task``, ``unit``, ``conditions``, ``columns``, ``rows``."""
    return json.loads((Path(__file__).with_suffix(".json")).read_text())


def model_title(model: str, aggregate: str | None = None) -> str:
    """``("scha_vae", "lag")`` -> ``"SCHA-VAE (LAG)"``; a VAE pools nothing, a VHE the mean."""
    title = TITLES.get(model, model.upper())
    if model == "vae" or model.endswith("vhe") or not aggregate:
        return title
    return f"{title} ({aggregate.upper() if aggregate == 'lag' else aggregate})"


def label(key: str) -> str:
    """How a condition is called in a table."""
    return LABELS.get(key, key.replace("_", " "))


def run_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a config adds to the conditions of its records: the model and how it was trained."""
    flat = flatten(config)
    keys = {
        "model": "model.name",
        "aggregate": "model.aggregate",
        "objective": "objective.name",
        "trained_on": "data.source",
        "training_classes": "data.split",
    }
    facts = {name: flat.get(key) for name, key in keys.items()}
    size = flat.get("data.set_size")
    return facts | {"trained_set_size": None if size is None else int(np.max(size))}


def published(task: str, record: Mapping[str, Any], config: Mapping[str, Any]) -> Published | None:
    """The paper's number of this model whose protocol is nearest to a record's, or None.

    Data, split, set size and method must agree; what else differs is in its ``remark``.

    Args:
      task: the record's task.
      record: its name and conditions.
      config: nested or `ml_collections`, of the run.
    """
    ours = {"augmented": False, **run_facts(config), **record}
    found = []
    for group, row, conditions, value in _cells(task):
        hard = {key for key in conditions if key in HARD or (key == "objective" and key in row)}
        if "model" in row and all(ours.get(key) == conditions[key] for key in hard):
            differs = [key for key in conditions if key not in hard and ours.get(key) != conditions[key]]
            found.append((len(differs), group, conditions, differs, value))
    if not found:
        return None
    _, group, conditions, differs, value = min(found, key=lambda item: item[0])
    remark = _remark(differs, conditions, ours)
    if "note" in group:
        remark += f" ({group['note']})"
    return Published(group["table"], value, remark, not set(differs) & set(DATA))


def beside(task: str, records: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> list[Published | None]:
    """`published` of every record; of bounds that differ in K alone, beside the one of the largest K only."""
    largest: dict[str, int] = {}
    for record in records:
        largest[_but_samples(record)] = max(largest.get(_but_samples(record), 0), record.get(SAMPLES) or 0)
    return [
        published(task, record, config) if (record.get(SAMPLES) or 0) == largest[_but_samples(record)] else None
        for record in records
    ]


def _but_samples(record: Mapping[str, Any]) -> str:
    return condition({key: value for key, value in record.items() if key != SAMPLES})


def related(task: str, records: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The papers' tables about the same data as any of the records, whatever the model, as text.

    Returns:
      ``title``, ``conditions`` (a line), ``columns`` and ``rows`` (lists of text) of each.
    """
    out = []
    for group in (group for group in tables() if group["task"] == task):
        fixed = {key: value for key, value in group["conditions"].items() if key in ("source", "scheme", "augmented")}
        if not any(all(record.get(key, False) == value for key, value in fixed.items()) for record in records):
            continue
        columns = [", ".join(describe(key, value) for key, value in column.items()) for column in group["columns"]]
        rows = []
        for row in group["rows"]:
            name = row.get("label") or model_title(row["model"], row.get("aggregate"))
            objective = f", {row['objective']} objective" if "objective" in row else ""
            rows.append([name + objective, *(_number(group, row, i) for i in range(len(columns)))])
        line = ", ".join(describe(key, value) for key, value in group["conditions"].items())
        line += f" ({group['note']})" if "note" in group else ""
        out.append({"title": f"{group['table']}, {group['unit']}", "conditions": line, "rows": rows})
        out[-1]["columns"] = ["model", *(column or group["conditions"].get("name", "") for column in columns)]
    return out


def describe(key: str, value: Any) -> str:
    """``("importance_samples", 10)`` -> ``"K 10"``; names speak for themselves."""
    if isinstance(value, bool):
        return label(key) if value else f"not {label(key)}"
    return value if key in SPEAKING and isinstance(value, str) else f"{label(key)} {value}"


def _cells(task: str) -> Iterator[tuple[dict, dict, dict[str, Any], str]]:
    """Every number about a task: its table, its row, all its conditions, and itself as text."""
    for group in tables():
        if group["task"] == task:
            for row in group["rows"]:
                match = {key: value for key, value in row.items() if key not in ("values", "errors", "label")}
                for i, column in enumerate(group["columns"]):
                    yield group, row, {**group["conditions"], **column, **match}, _number(group, row, i)


def _number(group: Mapping[str, Any], row: Mapping[str, Any], column: int) -> str:
    value, error = row["values"][column], group.get("error")
    error = row["errors"][column] if "errors" in row else error
    return f"{value:g}" if error is None else f"{value:g} ± {error:g}"


def _remark(differs: list[str], theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    if not differs:
        return "same protocol"
    side = lambda values: ", ".join(describe(key, values.get(key, "unknown")) for key in differs)  # noqa: E731
    text = f"there: {side(theirs)}; here: {side(ours)}"
    if set(differs) & set(DATA):
        return f"{text}: not comparable"
    return f"{text}: bounds of different tightness" if set(differs) & set(BOUND) else text
