"""Pictures of image sets: samples of every kind, labelled PNG grids, and the sample grids of a training run."""

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from hfsgm_jax import processes, sampling
from hfsgm_jax.run_folder import Folder
from hfsgm_jax.trace import PLATES, Apply, Encode, Plan, Sets

NEW = "conditional", "one_pass", "refined"  # kinds of new images of the context's class
SHOWN = 8  # new images of each kind in a row of a picture, and chains of refinement: each is many traversals
ROWS = 8  # of a picture
TRAINING = "reconstruction", "conditional", "refined", "unconditional"  # kinds in the grids of a training run
ITERATIONS = 10  # of their refinement
PAGE, GUTTER, TEXT = 255, 225, 70  # grey levels
Page = Figure | Image.Image
MARGIN = 8  # pixels around the page, and between blocks
HEADER = 16  # pixels of a line of text


def draw_set(
    apply: Apply, encode: Encode, row: Sets, key: jax.Array, *, num: int, num_iterations: int, temperature: float = 1.0
) -> dict[str, jax.Array]:
    """Every kind of sample of one context, in one program: compiling traversals takes longer than running them.

    Every new image of the context's class draws the shared latents anew, in every kind: their diversity compares.

    Args:
      apply, encode, row, key: see `Evaluation.each`; the row is a context of N images.
      num: new images, at least `SHOWN`.
      num_iterations: of the refinement.
      temperature: factor on the noise of all latents.

    Returns:
      uint8 images, 0..255. Means: ``reconstruction`` ``[N, H, W, C]``; ``conditional``, ``one_pass``, ``refined``
      (from the conditional draws on) and ``unconditional`` (of one imagined class) ``[SHOWN, H, W, C]``; ``film``
      ``[num_iterations + 1, H, W, C]``, the first chain from its conditional sample on. Draws: ``conditional_draws``
      and ``one_pass_draws`` ``[num, H, W, C]``, ``refined_draws`` ``[SHOWN, H, W, C]``. A model without context has
      ``reconstruction`` and ``unconditional`` only.
    """
    apply = functools.partial(apply, temperature=dict.fromkeys(PLATES, temperature))
    sets = Sets.of(row.images[None], row.observed[None])
    n, shape, keys = sets.num_slots, sets.images.shape[2:], jax.random.split(key, 5)
    of_each = lambda tree: jax.tree.map(lambda x: jnp.repeat(x, num, 0), tree)  # a row per new image
    wide = sets.with_unobserved(1)
    features = encode(wide)
    # Reconstruction and conditional sampling are one traversal: both decode from the same latents.
    trace = apply(of_each(wide), Plan(), keys[0], features=of_each(features))
    mean, drawn = sampling.mean_and_draw(trace.px, keys[1])
    out = {"reconstruction": mean[:1, :n]}
    if trace.shared:
        mean, drawn = mean[None, :, n], drawn[None, :, n]
        chain = dict(num_iterations=num_iterations, start=drawn[:, :SHOWN])
        steps = sampling.refine(apply, encode, sets, SHOWN, keys[3], **chain)
        known = lambda _: of_each(jax.tree.map(lambda x: x[:, :n], features))
        one_pass = sampling.one_pass(apply, known, of_each(sets), 1, keys[2])
        new = (mean, drawn), [x.swapaxes(0, 1) for x in one_pass], [images[:, :, -1] for images in steps]
        for kind, (means_of_kind, draws_of_kind) in zip(NEW, new):
            out |= {kind: means_of_kind[:, :SHOWN], f"{kind}_draws": draws_of_kind}
        out["film"] = jnp.concatenate([mean[:, :1], steps[0][:, 0]], 1)
    out["unconditional"], _ = sampling.unconditional(apply, 1, SHOWN, shape, keys[4])
    return as_bytes(out)


def as_bytes(samples: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Images in [0, 1] of a batch of one row as uint8, 0..255, without its axis: samples of every class stay small."""
    return {name: jnp.round(255 * jnp.clip(x[0], 0, 1)).astype(jnp.uint8) for name, x in samples.items()}


def grid(blocks: Sequence[np.ndarray], titles: Sequence[str] = (), scale: int = 2) -> Image.Image:
    """Blocks of images side by side, a set per row.

    Args:
      blocks: each ``[rows, columns, H, W, C]`` in [0, 1] with the same number of rows; drawings (`are_drawn`)
        are shown as dark ink (1) on white (0). An image of NaN leaves its cell empty.
      titles: one per block, written above it.
      scale: pixels per pixel.
    """
    drawn = are_drawn(blocks)
    titles, tiles = titles or [""] * len(blocks), [_tile(1 - block if drawn else block, scale) for block in blocks]
    font, header = ImageFont.load_default(size=12), HEADER if any(titles) else 0
    widths = [max(tile.width, math.ceil(font.getlength(title))) for tile, title in zip(tiles, titles, strict=True)]
    size = sum(widths) + MARGIN * (len(tiles) + 1), tiles[0].height + header + 2 * MARGIN
    page = Image.new("RGB", size, (PAGE,) * 3)
    draw, x = ImageDraw.Draw(page), MARGIN
    for tile, title, width in zip(tiles, titles, widths):
        draw.text((x, MARGIN - 3), title, fill=(TEXT,) * 3, font=font)
        page.paste(tile, (x, MARGIN + header))
        x += width + MARGIN
    return page


def are_drawn(blocks: Sequence[np.ndarray]) -> bool:
    """True where ``[..., C]`` in [0, 1] are drawings, light ink on black: one channel, most of it nearly black."""
    return blocks[0].shape[-1] == 1 and bool(np.nanmedian(np.concatenate([block.ravel() for block in blocks])) < 0.2)


def _tile(shades: np.ndarray, scale: int) -> Image.Image:
    """A block with gutters of ``scale`` pixels between its images."""
    pixels = np.where(np.isnan(shades), PAGE, np.round(255 * np.clip(shades, 0, 1))).astype(np.uint8)
    pixels = np.broadcast_to(pixels, (*pixels.shape[:-1], 3)).repeat(scale, 2).repeat(scale, 3)
    cells = np.pad(pixels, ((0, 0), (0, 0), (scale, 0), (scale, 0), (0, 0)), constant_values=GUTTER)
    page = np.concatenate(np.concatenate(cells, 1), 1)  # rows below each other, then columns side by side
    return Image.fromarray(np.pad(page, ((0, scale), (0, scale), (0, 0)), constant_values=GUTTER))


def blank(images: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Images ``[rows, columns, H, W, C]`` with NaN where ``mask`` ``[rows, columns]`` is False."""
    return np.where(mask[..., None, None, None], images, np.float32(np.nan))


def save(page: Page, path: Folder) -> Path:
    """Writes a PNG, whole or not at all; returns its path, whose folders are made."""
    path = Path(path).with_suffix(".png")
    with processes.replacing(path) as partial:
        if isinstance(page, Figure):
            page.savefig(partial, format="png", dpi=120)
        else:
            page.save(partial, format="png")
    return path


def sample_grid(kind: str, context: np.ndarray, samples: Mapping[str, np.ndarray], title: str = "context"):
    """The grid of one kind of samples beside their contexts: means, and draws of new images.

    Args:
      kind: ``reconstruction``, one of `NEW`, or ``unconditional``.
      context: ``[rows, N, H, W, C]`` in [0, 1], NaN where there is no image.
      samples: from `draw_set`, in [0, 1]; more rows and images than are shown.
      title: of the contexts.
    """
    rows, heading = len(context), kind.replace("_", " ")
    if kind == "unconditional":
        return grid([samples[kind][:rows]], [f"{heading} (a row: one imagined class)"])
    if kind == "reconstruction":
        images = blank(samples[kind][:rows], ~np.isnan(context).all((2, 3, 4)))
        return grid([context, images], [title, heading])
    images, draws = samples[kind][:rows], samples[f"{kind}_draws"][:rows, :SHOWN]
    return grid([context, images, draws], [title, f"{heading}: means", "draws"])


@functools.partial(jax.jit, static_argnames="model")
def _draw_samples(model: Any, variables: Any, sets: Sets, key: jax.Array) -> dict[str, jax.Array]:
    apply, encode = sampling.bind(model, variables)
    draw = functools.partial(draw_set, apply, encode, num=SHOWN, num_iterations=ITERATIONS)
    samples = jax.vmap(draw)(sets, jax.random.split(key, sets.num_rows))
    return {name: images for name, images in samples.items() if name.removesuffix("_draws") in TRAINING}


def write_sample_grids(model: Any, variables: Any, sets: Sets, key: jax.Array, folder: Folder, step: int) -> list[Path]:
    """Writes ``STEP_KIND.png`` for context, reconstruction, conditional, refined and unconditional.

    Args:
      model, variables: a Flax module and its (EMA) variables.
      sets: the contexts; the first rows are shown.
      folder: ``samples/`` of a run.
      step: training step, in the names of the files.
    """
    few = jax.tree.map(lambda x: x[:ROWS], sets)
    samples = {name: x / 255 for name, x in jax.device_get(_draw_samples(model, variables, few, key)).items()}
    context = blank(np.asarray(few.images), np.asarray(few.observed))
    pages = {"context": grid([context], ["context"])}
    pages |= {kind: sample_grid(kind, context, samples) for kind in TRAINING if kind in samples}
    return [save(page, Path(folder) / f"{step:08d}_{kind}.png") for kind, page in pages.items()]
