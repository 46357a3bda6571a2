"""Records as tables: a column per condition that differs, a line of the common ones; as text and Markdown.

The page (``page/page.html.j2``) renders the same `Table` as HTML.
"""

import json
import math
import re
import shutil
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from hfsgm_jax.evaluation.records import MEASURED, Result, increase

OF_THE_RUN = ("step", "dtype", "weights", "images_one_by_one")  # no conditions where runs are compared
LABELS = dict(name="", trained_set_size="training set size", training_augmentation="augmentation")
LABELS |= dict(importance_samples="K", importance_samples_z="K over z")
LABELS |= dict(class_samples_c="samples of c", class_samples_z="samples of z")
MAX_PARTS = 10  # columns of a record's `parts`; where there are more, none is shown


class Table(NamedTuple):
    """A table of text.

    Attributes:
      columns: headings.
      rows: as many cells each.
      common: the conditions of one value in all rows that have them, a line.
      notes: footnotes, numbered from 1; a cell refers to them by ``[1]``.
      conditions: how many of the columns, the first ones, say what was measured.
    """

    columns: list[str]
    rows: list[list[str]]
    common: str = ""
    notes: Sequence[str] = ()
    conditions: int = 1

    @property
    def numeric(self) -> list[bool]:
        """Per column, whether it holds numbers."""
        return [all(re.match(r"[-(\d]|nan|inf|$", row[i]) for row in self.rows) for i in range(len(self.columns))]


def table(records: Sequence[Result], across: str = "run") -> Table:
    """A row per measurement; its numbers side by side where ``across`` has several values.

    A record's ``paper`` (`page.paper.Published`) stands beside its number. Where runs are compared, the last step of
    each counts, and a number from the second run on has the paired difference from the first beside it.

    Args:
      records: flat dicts with ``value``.
      across: the condition with a column for each of its values.
    """
    head_of = lambda record: str(record.get(across, "value"))
    heads = list(dict.fromkeys(map(head_of, records)))
    hidden = {*MEASURED, "paper", across, *(OF_THE_RUN if len(heads) > 1 else ())} - {"unit"}
    varying, common = split_conditions(records, hidden)
    cited = {head_of(record) for record in records if record.get("paper")}
    parts = scalar_parts(records) if len(heads) == 1 else []
    measured: dict[str, dict[str, Result]] = {}  # conditions -> head -> record
    for record in sorted(records, key=lambda record: record.get("step", 0)):
        conditions = json.dumps({key: value for key, value in record.items() if key not in hidden}, sort_keys=True)
        measured.setdefault(conditions, {})[head_of(record)] = record
    rows, notes = [], []
    paired = {head for head in heads for row in measured.values() if _difference(row, heads[0], head)}
    for row in measured.values():
        first = next(iter(row.values()))
        cells = [show(first[key]) if key in first else "" for key in varying]
        for head in heads:
            cells.append(_value(row.get(head, {}), notes))
            cells += [_difference(row, heads[0], head)] if head in paired else []
            cells += [_published(row.get(head, {}), notes)] if head in cited else []
        rows.append(cells + [number((first.get("parts") or {}).get(key, "")) for key in parts])
    beside = lambda head: [f"− {heads[0]}"] * (head in paired) + ["paper"] * (head in cited)
    columns = [text for head in heads for text in (head, *beside(head))]
    line = "; ".join(f"{label(key)}: {show(value)}" for key, value in common.items())
    return Table([*map(label, varying), *columns, *map(label, parts)], rows, line, notes, len(varying))


def text_table(records: Sequence[Result]) -> str:
    """The records that have a value as aligned lines for a terminal, numbers to the right; empty if there is none.

    Columns beyond the terminal's width follow below, beside the same conditions.
    """
    records = [record for record in records if record.get("value") is not None]
    if not records:
        return ""
    found, limit = table(records), shutil.get_terminal_size((120, 24)).columns
    widths = [max(map(len, [*heading.split(), *cells])) for heading, *cells in zip(found.columns, *found.rows)]
    stacked = [textwrap.wrap(heading, width) for heading, width in zip(found.columns, widths)]
    height, blocks = max(map(len, stacked)), [[*range(found.conditions)]]
    for i in range(found.conditions, len(widths)):
        if len(blocks[-1]) > found.conditions and sum(widths[j] + 2 for j in [*blocks[-1], i]) > limit + 2:
            blocks.append(blocks[-1][: found.conditions])
        blocks[-1].append(i)
    pad = lambda text, i: text.rjust(widths[i]) if found.numeric[i] else text.ljust(widths[i])
    lines = [*zip(*([""] * (height - len(words)) + words for words in stacked)), *found.rows]
    of_block = lambda block: ["  ".join(pad(cells[i], i) for i in block).rstrip() for cells in lines]
    shown = ["\n".join(filter(None, of_block(block))) for block in blocks]
    return "\n".join(["\n\n".join(shown), *(textwrap.fill(line, limit) for line in _below(found))])


def markdown(table: Table) -> str:
    """A Markdown table, its footnotes and common conditions after it."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in (table.columns, *table.rows)]
    lines = [f"| {' | '.join(row)} |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:])]
    return "\n".join([*lines, *(f"\n{line}" for line in _below(table))])


def split_conditions(records: Sequence[Mapping[str, Any]], hidden: Collection[str]) -> tuple[list[str], dict]:
    """Names of the conditions that differ, ``name`` first, and those of one value in all records that have them."""
    keys = [key for key in dict.fromkeys(["name", *(k for r in records for k in r)]) if key not in hidden]
    values = {key: {json.dumps(r[key], sort_keys=True): r[key] for r in records if key in r} for key in keys}
    common = {key: next(iter(x.values())) for key, x in values.items() if key != "name" and len(x) == 1}
    rows = lambda shown: len({json.dumps([r.get(key) for key in shown], sort_keys=True) for r in records})
    differ = [key for key in keys if key not in common]
    common = {key: x for key, x in common.items() if rows([*differ, key]) == rows(differ)}  # else two rows look alike
    varying = [key for key in keys if key not in common and not any(isinstance(r.get(key), dict) for r in records)]
    if {"source", "split", "resize", "set_size"} & {*varying}:  # other data, as these say
        varying = [key for key in varying if key not in ("sha256", "available_sets", "num_classes")]
    return varying, common


def scalar_parts(records: Sequence[Result]) -> list[str]:
    """The parts of records that are columns of their table."""
    parts = [record["parts"] for record in records if isinstance(record.get("parts"), dict)]
    keys = dict.fromkeys(key for part in parts for key, value in part.items() if not isinstance(value, dict | list))
    return list(keys) if len(keys) <= MAX_PARTS else []


def label(key: str) -> str:
    """A condition's name in a table."""
    return LABELS.get(key, key.replace("_", " "))


def number(value: Any, error: float | None = None) -> str:
    """``(106.8201, 1.2409)`` -> ``"106.82 ± 1.24"``; three decimals below 10, and other types as they are."""
    if not isinstance(value, float):
        return f"{value:,}" if type(value) is int else show(value)
    digits = 3 if not math.isfinite(value) or abs(value) < 10 else 2
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def show(value: Any) -> str:
    """A condition's value as short text."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, list | tuple):
        return ", ".join(map(show, value))
    long = isinstance(value, int) and value >= 10_000
    words = f"{value:g}" if isinstance(value, float) else f"{value:,}" if long else str(value)
    return words[:12] + "…" if re.fullmatch("[0-9a-f]{64}", words) else words  # a SHA-256


def _value(record: Result, notes: list[str]) -> str:
    cell = number(record.get("value", ""), record.get("standard_error"))
    cell += f" ({record['bits_per_dim']:.4f} bits/dim)" if "bits_per_dim" in record else ""
    alone = "Image by image: this model has no latents that a set shares."
    return cell + _note(alone, notes) if record.get("images_one_by_one") else cell


def _difference(row: Mapping[str, Result], first: str, head: str) -> str:
    """Difference of the run ``head`` from the first, with its standard error; empty where they are not paired."""
    found = increase(row[head], row[first]) if head != first and {head, first} <= {*row} else {}
    return number(found["increase"], found["increase_error"]) if found else ""


def _published(record: Result, notes: list[str]) -> str:
    """A paper's number, in parentheses where the data differ."""
    if not (other := record.get("paper")):
        return ""
    return (other.text if other.comparable else f"({other.text})") + _note(f"{other.table}; {other.remark}.", notes)


def _note(words: str, notes: list[str]) -> str:
    notes += [] if words in notes else [words]
    return f" [{notes.index(words) + 1}]"


def _below(table: Table) -> list[str]:
    common = [f"Common to all rows, where they apply: {table.common}."] if table.common else []
    return [f"[{i}] {note}" for i, note in enumerate(table.notes, 1)] + common
