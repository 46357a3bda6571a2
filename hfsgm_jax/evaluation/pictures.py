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

from hfsgm_jax import sampling
from hfsgm_jax.trace import Plan, Sets

PAGE, GUTTER, TEXT = 255, 225, 70  # grey levels
MARGIN = 8  # pixels around the page, and between blocks
ROWS, NEW = 8, 8  # rows and new images per row of a sample grid
ITERATIONS = 10  # of refinement


def grid(
    blocks: Sequence[np.ndarray],
    titles: Sequence[str] = (),
    masks: Sequence[np.ndarray | None] = (),
    scale: int = 2,
) -> Image.Image:
    """Blocks of images side by side, a set per row.

    Args:
      blocks: each ``[rows, columns, H, W, C]`` in [0, 1] with the same number of rows; one channel
        is shown as dark ink (1) on white (0), three as they are.
      titles: one per block, written above it.
      masks: one per block, ``[rows, columns]`` bool or None; where False the place stays empty.
      scale: pixels per pixel.
    """
    masks = list(masks) or [None] * len(blocks)
    tiles = [_block(np.asarray(block), mask, scale) for block, mask in zip(blocks, masks, strict=True)]
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


def _block(images: np.ndarray, mask: np.ndarray | None, scale: int) -> np.ndarray:
    """``[rows, columns, H, W, C]`` -> uint8 ``[height, width, 3]`` with gutters between images."""
    rows, columns, h, w, channels = images.shape
    pixels = np.clip(np.nan_to_num(images.astype(np.float32)), 0, 1)
    if channels == 1:
        pixels = np.repeat(1 - pixels, 3, -1)
    pixels = np.round(pixels * 255).astype(np.uint8)
    if mask is not None:
        pixels = np.where(np.asarray(mask, bool)[..., None, None, None], pixels, PAGE).astype(np.uint8)
    pixels = pixels.repeat(scale, 2).repeat(scale, 3)
    gap = ((0, 0), (0, 0), (scale, 0), (scale, 0), (0, 0))
    pixels = np.pad(pixels, gap, constant_values=GUTTER)
    flat = pixels.transpose(0, 2, 1, 3, 4).reshape(rows * (h + 1) * scale, columns * (w + 1) * scale, 3)
    return np.pad(flat, ((0, scale), (0, scale), (0, 0)), constant_values=GUTTER)


def save(page: Image.Image, path: str | os.PathLike) -> Path:
    """Writes a PNG atomically, with the folders it needs."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    page.save(partial, format="PNG")
    os.replace(partial, path)
    return path


@functools.partial(jax.jit, static_argnames=("model", "num", "num_iterations", "one_pass"))
def _draw_samples(model, variables, sets: Sets, key: jax.Array, num: int, num_iterations: int, one_pass: bool):
    """All kinds of samples in one program of as few traversals as can be (compiling them takes time)."""
    apply, encode = sampling.bind(model, variables)
    keys = jax.random.split(key, 5)
    # Reconstruction and conditional sampling are one traversal: both decode from the same latents.
    trace = apply(sets.with_unobserved(num), Plan(), keys[0])
    means, draws = trace.px.mean(), trace.px.sample(keys[1])
    n = sets.num_slots
    shape = sets.images.shape[2:]
    out = {"reconstruction": means[:, :n]}
    if sampling.has_context(trace):
        settings = dict(num_iterations=num_iterations, encode=encode, start=draws[:, n:])
        out["conditional"], out["draws"] = means[:, n:], draws[:, n:]
        out["refined"] = sampling.refine(apply, sets, num, keys[2], **settings)
        if one_pass:
            out["one_pass"] = sampling.one_pass(apply, sets, num, keys[4])
    out["unconditional"] = sampling.unconditional(apply, sets.num_rows, num, shape, keys[3])
    return out


def draw_samples(
    model: Any,
    variables: Any,
    sets: Sets,
    key: jax.Array,
    num: int = NEW,
    num_iterations: int = ITERATIONS,
    one_pass: bool = False,
) -> dict[str, np.ndarray]:
    """Means of reconstructions ``[B, N, H, W, C]`` and of ``num`` samples per row of every kind.

    Keys: ``reconstruction``, ``conditional``, ``refined`` (chains that start from the conditional
    draws), ``one_pass`` (if asked for), ``unconditional``, and ``draws``: the conditional samples
    not as means; a model without context has only the first and ``unconditional``.
    """
    sets = sets.replace(images=jnp.asarray(sets.images, jnp.float32))
    return jax.device_get(_draw_samples(model, variables, sets, key, num, num_iterations, one_pass))


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
    samples.pop("draws", None)
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
