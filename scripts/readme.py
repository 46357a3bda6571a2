"""The parts of README.md and docs/ that scripts write, each between two comments that name it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hfsgm_jax.evaluation.tables import Table, markdown
from scripts.machine import ROOT


def _page(name: str) -> tuple[Path, list[str]]:
    """The page with the part ``name``, and its text: before, within and after."""
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        before, found, rest = page.read_text().partition(begin)
        if found:
            within, _, after = rest.partition(end)
            return page, [before + begin, within, end + after]
    raise ValueError(f"no page has a part {name!r}")


def part(name: str) -> str:
    """Content of the part ``name``."""
    return _page(name)[1][1].strip("\n")


def write(name: str, text: str) -> None:
    """Puts ``text`` in the place of the part ``name``."""
    page, (before, _, after) = _page(name)
    page.write_text(f"{before}{text}\n{after}")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows (heading -> cell, all with the same headings) as a Markdown table."""
    return markdown(Table(list(rows[0]), [[str(cell) for cell in row.values()] for row in rows]))
