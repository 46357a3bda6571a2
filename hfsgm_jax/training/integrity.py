"""Whether a checkpoint still has the bytes that were written: a list of its files with sizes and checksums.

Orbax checks its indices, but not the arrays' bytes: without this a flipped bit would be a changed parameter.
"""

import json
import os
import zlib
from pathlib import Path

MANIFEST = "files.json"
_UNREADABLE = OSError, ValueError, TypeError, AttributeError  # of a damaged list
_PIECE = 1 << 20


def _checksum(path: Path) -> int:
    """CRC-32: it is accidents that it guards against, and it is as fast as disks are."""
    value = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            value = zlib.crc32(piece, value)
    return value


def write_manifest(folder: Path) -> None:
    """Lists the files of the items of a checkpoint, all of them or nothing (what lies beside the items is Orbax's)."""
    files = {
        path.relative_to(folder).as_posix(): [path.stat().st_size, _checksum(path)]
        for path in sorted(folder.glob("*/**/*"))
        if path.is_file()
    }
    partial = folder / f"{MANIFEST}.part"
    partial.write_text(json.dumps(files) + "\n")
    os.replace(partial, folder / MANIFEST)


def missing_files(folder: Path) -> list[str]:
    """What is listed and not there; nothing where the list cannot be read."""
    try:
        return [name for name in _listed(folder) if not (folder / name).exists()]
    except _UNREADABLE:
        return []


def damage(folder: Path, item: str = "") -> str | None:
    """What is wrong with a checkpoint (or with one item of it), or None.

    One without a list, as older versions wrote them, is not looked at.
    """
    try:
        for name, (size, checksum) in _listed(folder).items():
            path = folder / name
            if not name.startswith(item):
                continue
            if not path.exists():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes, and {size} were written"
            if _checksum(path) != checksum:
                return f"{name} does not have the bytes that were written"
    except _UNREADABLE as error:
        return f"{MANIFEST}: {error}"
    return None


def _listed(folder: Path) -> dict[str, list[int]]:
    path = folder / MANIFEST
    return json.loads(path.read_text()) if path.exists() else {}
