"""The parts of README.md that scripts write, each between two comments that name it."""

from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def _markers(name: str) -> tuple[str, str]:
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def part(name: str) -> str:
    """What stands in the part ``name``."""
    begin, end = _markers(name)
    return README.read_text().split(begin)[1].split(end)[0].strip("\n")


def write(name: str, text: str) -> None:
    """Puts ``text`` in the place of the part ``name``."""
    begin, end = _markers(name)
    whole = README.read_text()
    README.write_text(f"{whole.split(begin)[0]}{begin}\n{text}\n{end}{whole.split(end)[1]}")
