"""Records as tables for a page: what varies becomes columns, what is common one line."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hfsgm_jax.evaluation.page.paper import Published, label
from hfsgm_jax.evaluation.records import MEASURED, Record

# Not a condition, or shown elsewhere.
HIDDEN = {"name", "unit", *MEASURED}
MAX_PARTS = 10  # columns of a record's `parts`; more are folded away


class Cell(NamedTuple):
    """A table's cell: text, the number of its footnote (0: none), how it stands out."""

    text: str = ""
    note: int = 0
    style: str = ""  # of "number", "muted", "best", "wrap", as in the page's CSS


class Table(NamedTuple):
    """A table of a page.

    Attributes:
      columns: headings.
      rows: as many cells each.
      common: the conditions that all rows share, a line.
      notes: footnotes, numbered from 1.
    """

    columns: list[str]
    rows: list[list[Cell]]
    common: str = ""
    notes: list[str] = []

    @property
    def numeric(self) -> list[bool]:
        """Of each column, whether it holds numbers."""
        return [any("number" in row[i].style for row in self.rows) for i in range(len(self.columns))]


def number(value: Any, error: Any = None) -> str:
    """``(106.8201, 1.2409)`` -> ``"106.82 ± 1.24"``; three decimals below 10, and other types as they are."""
    if not _is_number(value):
        return show(value)
    if isinstance(value, int):
        return f"{value:,}"
    digits = 3 if not math.isfinite(value) or abs(value) < 10 else 2
    text = f"{value:.{digits}f}"
    return text if not _is_number(error) else f"{text} ± {error:.{digits}f}"


def show(value: Any) -> str:
    """A condition's value as short text."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple) and not any(isinstance(item, dict | list) for item in value):
        return ", ".join(show(item) for item in value)
    if isinstance(value, dict | list):
        return json.dumps(value)
    text = str(value)
    return text[:12] + "…" if len(text) == 64 and " " not in text else text  # a SHA-256


def values_table(records: Sequence[Record], published: Sequence[Published | None] = ()) -> Table:
    """A row per record.

    Args:
      records: of one task, each with a value.
      published: the numbers to be put beside them.
    """
    varying, common = split_conditions(records)
    columns = ["", "value", *(["unit"] if len({record.get("unit") for record in records}) > 1 else [])]
    parts, bits = _scalar_parts(records), any("bits_per_dim" in record for record in records)
    published = published or [None] * len(records)
    notes: list[str] = []
    rows = []
    for record, other in zip(records, published, strict=True):
        row = [Cell(_name(record)), Cell(number(record["value"], record.get("standard_error")), style="number")]
        row += [Cell(str(record.get("unit", "")))] if "unit" in columns else []
        row += [published_cell(other, notes)] if any(published) else []
        row += [_cell(record, "bits_per_dim")] if bits else []
        row += [_cell(record, key) for key in varying]
        row += [_part(record.get("parts"), key) for key in parts]
        rows.append(row)
    columns += ["paper"] * any(published) + ["bits/dim"] * bits + [label(key) for key in (*varying, *parts)]
    units = {record.get("unit") for record in records if record.get("unit")}
    unit = [f"unit: {units.pop()}"] if len(units) == 1 else []
    return Table(
        columns, rows, "; ".join(unit + [f"{label(key)}: {show(value)}" for key, value in common.items()]), notes
    )


def split_conditions(records: Sequence[Mapping[str, Any]], hidden: Iterable[str] = HIDDEN) -> tuple[list[str], dict]:
    """Names of the conditions that differ between records, in order of appearance, and the common ones."""
    keys = dict.fromkeys(key for record in records for key in record if key not in hidden)
    seen = {key: {json.dumps(record.get(key), sort_keys=True, default=str) for record in records} for key in keys}
    varying = [key for key in keys if len(seen[key]) > 1 and not all(_is_dict(r.get(key)) for r in records if key in r)]
    if "sha256" in varying and ("source" in varying or "split" in varying):
        varying.remove("sha256")  # other data, as these say
    common = {key: records[0][key] for key in keys if len(seen[key]) == 1}
    return varying, common


def folded_parts(records: Sequence[Record]) -> list[tuple[str, str]]:
    """``(name, JSON)`` of the parts of records that no column shows."""
    shown = set(_scalar_parts(records))
    out = []
    for record in records:
        parts = record.get("parts") or {}
        rest = {key: value for key, value in parts.items() if key not in shown} if _is_dict(parts) else parts
        if rest:
            out.append((_name(record), json.dumps(rest)))
    return out


def _scalar_parts(records: Sequence[Record]) -> list[str]:
    parts = [record["parts"] for record in records if _is_dict(record.get("parts"))]
    keys = dict.fromkeys(key for part in parts for key, value in part.items() if not isinstance(value, dict | list))
    return list(keys) if len(keys) <= MAX_PARTS else []


def published_cell(other: Published | None, notes: list[str]) -> Cell:
    """A paper's number, in parentheses where the data differ; adds its footnote to ``notes``."""
    if other is None:
        return Cell()
    note = f"{other.table}; {other.remark}."
    if note not in notes:
        notes.append(note)
    text = other.text if other.comparable else f"({other.text})"
    return Cell(text, notes.index(note) + 1, "number" if other.comparable else "number muted")


def _cell(record: Record, key: str) -> Cell:
    if key not in record:
        return Cell()
    value = record[key]
    text = f"{value:.4f}" if key == "bits_per_dim" else show(value)
    return Cell(text, style="number" if _is_number(value) else "")


def _part(parts: Any, key: str) -> Cell:
    return Cell(number(parts[key]), style="number") if _is_dict(parts) and key in parts else Cell()


def _name(record: Mapping[str, Any]) -> str:
    return str(record.get("name", "")).replace("_", " ")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_dict(value: Any) -> bool:
    return isinstance(value, Mapping)


def markdown(table: Table) -> str:
    """The table as Markdown, its footnotes after it."""
    text = lambda cell: cell.text.replace("|", "\\|") + (f" [{cell.note}]" if cell.note else "")  # noqa: E731
    bold = lambda cell: f"**{text(cell)}**" if "best" in cell.style and cell.text else text(cell)  # noqa: E731
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    lines += ["| " + " | ".join(bold(cell) for cell in row) + " |" for row in table.rows]
    lines += [f"\n[{i}] {note}" for i, note in enumerate(table.notes, 1)]
    return "\n".join(lines)
