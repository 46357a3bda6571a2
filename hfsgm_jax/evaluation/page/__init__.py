"""Pages of results: one self-contained HTML file, from templates beside this file."""

import base64
import functools
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from PIL import Image

from hfsgm_jax import processes

MEDIA = {".png": "image/png", ".gif": "image/gif", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
WIDE, LARGE = 1.6, 1000  # width over height, and pixels, from which on a picture has the page's width


class Picture(NamedTuple):
    """A picture of a page.

    Attributes:
      uri: a data URI; empty where the file is missing or no picture.
      caption: what it shows.
      path: where it was, relative to the run's folder.
      wide: whether it needs the width of the page.
    """

    uri: str
    caption: str
    path: str
    wide: bool = False


def picture(folder: Path, path: str, caption: str) -> Picture:
    """The picture at ``path``, relative to a run's folder; nothing outside of that folder is read."""
    file = (folder / path).resolve()
    media = MEDIA.get(file.suffix.lower())
    if media is None or not file.is_relative_to(folder.resolve()) or not file.is_file():
        return Picture("", caption, path)
    content = file.read_bytes()
    try:
        width, height = Image.open(io.BytesIO(content)).size
    except OSError:
        return Picture("", caption, path)
    return Picture(
        f"data:{media};base64,{base64.b64encode(content).decode()}", caption, path, width > min(LARGE, WIDE * height)
    )


def write_page(template: str, path: str | os.PathLike, **values: Any) -> Path:
    """Renders a template of this folder into ``path``, atomically, with the folders it needs."""
    with processes.replacing(path) as partial:
        partial.write_text(_templates().get_template(template).render(**values), encoding="utf-8")
    return Path(path)


def command(workdir: str | os.PathLike, tasks: Iterable[str]) -> str:
    """What to type for the results of these tasks."""
    return f"python evaluate.py --workdir={workdir} --tasks={','.join(tasks)}"


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
