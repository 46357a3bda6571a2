"""Pictures of image sets: labelled PNG grids, and the sample grids of a training run."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hfsgm_jax import processes, sampling
from hfsgm_jax.evaluation.draws import draw_set
from hfsgm_jax.trace import Sets

PAGE, GUTTER, TEXT = 255, 225, 70  # grey levels
RIGHT, WRONG = (34, 136, 85), (204, 85, 68)  # colours of frames
MARGIN = 8  # pixels around the page, and between blocks
ROWS, NEW = 8, 8  # rows and new images per row of a sample grid
ITERATIONS = 10  # of refinement, in the pictures of a training run
KINDS = "reconstruction", "conditional", "refined", "unconditional"  # that a training run draws


def grid(
    blocks: Sequence[np.ndarray],
    titles: Sequence[str] = (),
    masks: Sequence[np.ndarray | None] = (),
    frames: Sequence[np.ndarray | None] = (),
    scale: int = 2,
) -> Image.Image:
    """Blocks of images side by side, a set per row.

    Args:
      blocks: each ``[rows, columns, H, W, C]`` in [0, 1] with the same number of rows; one channel
        is shown as dark ink (1) on white (0), three as they are.
      titles: one per block, written above it.
      masks: one per block, ``[rows, columns]`` bool or None; where False the place stays empty.
      frames: one per block, ``[rows, columns]`` bool (a green frame where True, else a red one) or None: no frames.
      scale: pixels per pixel.
    """
    masks, frames = (list(given) or [None] * len(blocks) for given in (masks, frames))
    framed = any(frame is not None for frame in frames)
    tiles = [_block(np.asarray(b), m, f, scale, framed) for b, m, f in zip(blocks, masks, frames, strict=True)]
    font = ImageFont.load_default(size=12)
    header = 16 if titles else 0
    label_widths = [int(np.ceil(font.getlength(title))) for title in titles] or [0] * len(tiles)
    widths = [max(tile.shape[1], label) for tile, label in zip(tiles, label_widths, strict=True)]
    width = sum(widths) + MARGIN * (len(tiles) + 1)
    page = Image.new("RGB", (width, tiles[0].shape[0] + header + 2 * MARGIN), (PAGE,) * 3)
    draw, x = ImageDraw.Draw(page), MARGIN
    for i, tile in enumerate(tiles):
        if titles:
            draw.text((x, MARGIN - 3), titles[i], fill=(TEXT,) * 3, font=font)
        page.paste(Image.fromarray(tile), (x, MARGIN + header))
        x += widths[i] + MARGIN
    return page


def _block(
    images: np.ndarray, mask: np.ndarray | None, frame: np.ndarray | None, scale: int, framed: bool
) -> np.ndarray:
    """``[rows, columns, H, W, C]`` -> uint8 ``[height, width, 3]`` with gutters between images, and room for frames."""
    rows, columns, _, _, channels = images.shape
    pixels = np.clip(np.nan_to_num(images.astype(np.float32)), 0, 1)
    if channels == 1:
        pixels = np.repeat(1 - pixels, 3, -1)
    pixels = np.round(pixels * 255).astype(np.uint8)
    if mask is not None:
        pixels = np.where(np.asarray(mask, bool)[..., None, None, None], pixels, PAGE).astype(np.uint8)
    pixels = pixels.repeat(scale, 2).repeat(scale, 3)
    h, w = pixels.shape[2:4]
    if framed:
        colours = np.full((rows, columns, 3), PAGE) if frame is None else np.where(frame[..., None], RIGHT, WRONG)
        border = np.tile(colours[:, :, None, None], (1, 1, h + 2 * scale, w + 2 * scale, 1)).astype(np.uint8)
        border[:, :, scale:-scale, scale:-scale] = pixels
        pixels = border
    gap = ((0, 0), (0, 0), (scale, 0), (scale, 0), (0, 0))
    pixels = np.pad(pixels, gap, constant_values=GUTTER)
    h, w = pixels.shape[2:4]
    flat = pixels.transpose(0, 2, 1, 3, 4).reshape(rows * h, columns * w, 3)
    return np.pad(flat, ((0, scale), (0, scale), (0, 0)), constant_values=GUTTER)


def save(page: Image.Image, path: str | os.PathLike) -> Path:
    """Writes a PNG atomically, with the folders it needs."""
    with processes.replacing(path) as partial:
        page.save(partial, format="PNG")
    return Path(path)


def animate(pages: Sequence[Image.Image], path: str | os.PathLike, milliseconds: int = 250, pause: int = 2000) -> Path:
    """Writes pages of one size as a GIF that repeats, atomically; ``pause`` is for the last."""
    pages = [page.quantize(64) for page in pages]
    durations = [milliseconds] * (len(pages) - 1) + [pause]
    with processes.replacing(path) as partial:
        pages[0].save(partial, format="GIF", save_all=True, append_images=pages[1:], duration=durations, loop=0)
    return Path(path)


@functools.partial(jax.jit, static_argnames=("model", "num", "num_iterations"))
def _draw_samples(model, variables, sets: Sets, key: jax.Array, num: int, num_iterations: int):
    apply, encode = sampling.bind(model, variables)
    static = dict(num=num, chains=num, shown=num, num_iterations=num_iterations)
    keys = jax.random.split(key, sets.num_rows)
    out = jax.vmap(lambda row, key: draw_set(apply, encode, row, key, **static))(sets, keys)
    return {kind: images for kind, images in out.items() if kind in KINDS}


def draw_samples(
    model: Any, variables: Any, sets: Sets, key: jax.Array, num: int = NEW, num_iterations: int = ITERATIONS
) -> dict[str, np.ndarray]:
    """Means in [0, 1] of reconstructions ``[B, N, H, W, C]`` and of ``num`` samples per row of some of `KINDS`.

    A model without context has only ``reconstruction`` and ``unconditional``.
    """
    sets = sets.replace(images=jnp.asarray(sets.images, jnp.float32))
    samples = jax.device_get(_draw_samples(model, variables, sets, key, num, num_iterations))
    return {kind: images / 255 for kind, images in samples.items()}


def write_sample_grids(
    model: Any, variables: Any, sets: Sets, key: jax.Array, folder: str | os.PathLike, step: int
) -> list[Path]:
    """Writes ``STEP_KIND.png`` for context, reconstruction, conditional, refined and unconditional.

    Args:
      model, variables: a Flax module and its (EMA) variables.
      sets: the contexts; the first rows are shown.
      folder: ``samples/`` of a run.
      step: training step, in the names of the files.
    """
    few = jax.tree.map(lambda x: x[:ROWS], sets)
    samples = draw_samples(model, variables, few, key)
    context = np.asarray(few.images)
    mask = np.asarray(few.observed)
    pages = {"context": grid([context], ["context"], [mask])}
    for kind, images in samples.items():
        if kind == "unconditional":
            pages[kind] = grid([images], ["unconditional (a row: one imagined class)"])
        else:
            new = mask if kind == "reconstruction" else None
            pages[kind] = grid([context, images], ["context", kind], [mask, new])
    return [save(page, Path(folder) / f"{step:08d}_{kind}.png") for kind, page in pages.items()]
