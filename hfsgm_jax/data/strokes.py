"""Source: procedural, handwriting-like classes. Offline, unlimited, deterministic by seed.

A class is a program of two to four pen strokes; each starts somewhere on an earlier stroke (or freely) and
runs along a smooth curve. An instance perturbs every number of the program, warps the result, and draws it
with a pen of its own. All is vectorised: 15,000 images of 28x28 take a few seconds.
"""

from typing import Any, NamedTuple

import numpy as np

from hfsgm_jax.data.dataset import Dataset, group_by_class
from hfsgm_jax.data.resize import convert_channels

VERSION = "1"  # part of the cache's file name: raise it when a drawing changes
SPLIT_CLASSES = (600, 50, 100)  # train, val, test
INSTANCES = 20  # images per class

_STROKES = 4  # most strokes of a class
_POINTS = 40  # points along a stroke
_CHUNK = 1000  # images drawn at once


class Programs(NamedTuple):
    """Pen programs: arrays ``[..., strokes]``, lengths in units of the image's side."""

    heading: np.ndarray  # radians, at the stroke's start
    turn: np.ndarray  # radians turned over the stroke: 0 a line, else an arc
    wave: np.ndarray  # radians, amplitude of an S-bend on top
    length: np.ndarray
    attach: np.ndarray  # 0..1, where on the stroke before it starts
    offset: np.ndarray  # [..., strokes, 2], added to that start
    present: np.ndarray  # bool


def read(config: Any) -> Dataset:
    """The default classes at ``data.image_size``, drawn by ``data.seed``."""
    num = sum(SPLIT_CLASSES)
    images = draw(num, INSTANCES, config.image_size, config.seed)
    images = convert_channels(images.reshape(-1, *images.shape[2:]), config.channels)
    labels, parts = (np.repeat(x, INSTANCES) for x in (np.arange(num), np.repeat(np.arange(3), SPLIT_CLASSES)))
    return group_by_class(images, labels, np.zeros_like(labels), parts, {})


def draw(num_classes: int, num_images: int, image_size: int, seed: int) -> np.ndarray:
    """Draws ``num_images`` instances of ``num_classes`` random classes.

    Returns ``[num_classes, num_images, image_size, image_size, 1]`` uint8, ink 255 on 0, anti-aliased.
    """
    rng = np.random.default_rng(seed)
    programs = sample_programs(num_classes, rng)
    (scale, _), total = _frame(_trace(programs), programs.present), num_classes * num_images
    instances = _jitter(Programs(*(np.repeat(x, num_images, axis=0) for x in programs)), rng)
    points = _trace(instances)
    own, centre = _frame(points, instances.present)
    # The class's scale, so that an instance keeps its own slight size, as long as it fits.
    points = (points - centre) * np.minimum(np.repeat(scale, num_images, 0), 1.2 * own)
    points = _warp(points, rng)
    width = 0.024 * np.exp(0.12 * rng.standard_normal(total))
    rows = [slice(start, start + _CHUNK) for start in range(0, total, _CHUNK)]
    images = [_render(points[some], instances.present[some], width[some], image_size) for some in rows]
    return np.concatenate(images).reshape(num_classes, num_images, image_size, image_size, 1)


def sample_programs(num: int, rng: np.random.Generator) -> Programs:
    """``num`` random classes."""
    shape = (num, _STROKES)
    kind = rng.choice(3, size=shape, p=(0.4, 0.35, 0.25))  # line, arc, spline
    turn = rng.uniform(0.8, 4.2, shape) * rng.choice((-1.0, 1.0), shape)
    turn = np.where(kind == 0, 0.0, np.where(kind == 1, turn, 0.5 * turn))
    wave = np.where(kind == 2, rng.uniform(0.8, 1.6, shape) * rng.choice((-1.0, 1.0), shape), 0.0)
    # Headings prefer the axes and diagonals, as in writing; no two strokes in a row along one line.
    step = rng.integers(1, 4, shape) * rng.choice((-1, 1), shape)
    heading = np.cumsum(step, axis=1) * np.pi / 4 + 0.2 * rng.standard_normal(shape)
    free = rng.random(shape) < 0.3
    offset = np.where(free[..., None], rng.uniform(-0.35, 0.35, shape + (2,)), 0.0)
    strokes = rng.choice((2, 3, 4), size=(num, 1), p=(0.35, 0.4, 0.25))
    length = rng.uniform(0.4, 1.0, shape) * np.where(kind == 1, 1.2, 1.0)
    attach = rng.choice((0.0, 0.5, 1.0), shape) + 0.08 * rng.standard_normal(shape)
    return Programs(heading, turn, wave, length, attach, offset, present=np.arange(_STROKES) < strokes)


def _jitter(programs: Programs, rng: np.random.Generator) -> Programs:
    """Each program with every number slightly changed."""
    noise = lambda scale, *more: scale * rng.standard_normal(programs.heading.shape + more)
    return programs._replace(
        heading=programs.heading + noise(0.06),
        turn=programs.turn * (1 + noise(0.08)) + noise(0.06),
        wave=programs.wave * (1 + noise(0.12)),
        length=programs.length * np.exp(noise(0.06)),
        attach=programs.attach + noise(0.03),
        offset=programs.offset + noise(0.015, 2),
    )


def _trace(programs: Programs) -> np.ndarray:
    """The pen's path: ``[n, strokes, points, 2]`` (x to the right, y down)."""
    t = np.linspace(0, 1, _POINTS)
    heading, turn, wave, length = (x[..., None] for x in programs[:4])
    angle, step = heading + turn * t + wave * np.sin(2 * np.pi * t), length / (_POINTS - 1)
    path = np.stack([np.cos(angle) * step, np.sin(angle) * step], -1)
    path = np.cumsum(path, axis=2) - path[:, :, :1]
    start = np.clip(np.rint(programs.attach * (_POINTS - 1)), 0, _POINTS - 1).astype(int)
    rows = np.arange(len(path))
    for stroke in range(1, path.shape[1]):
        anchor = path[rows, stroke - 1, start[:, stroke]]
        path[:, stroke] += (anchor + programs.offset[:, stroke])[:, None]
    return path


def _frame(points: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale and centre ``[n, 1, 1, 2]`` that fit each class into the middle of the image."""
    inside = present[:, :, None, None]
    low = np.where(inside, points, np.inf).min((1, 2), keepdims=True)
    high = np.where(inside, points, -np.inf).max((1, 2), keepdims=True)
    side = high - low
    side = np.maximum(side, 0.6 * side.max(-1, keepdims=True))  # a narrow class is widened, a line stays one
    return 0.7 / side, (low + high) / 2


def _warp(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A small rotation, scaling, shear, shift and a smooth bending of the sheet; origin to the image's middle."""
    n = len(points)
    angle = np.deg2rad(5) * rng.standard_normal(n)
    matrix = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], -1).reshape(n, 2, 2)
    matrix = matrix @ (np.eye(2) + 0.05 * rng.standard_normal((n, 2, 2)))
    points = np.einsum("nspi,nji->nspj", points, matrix)
    phase = rng.uniform(0, 2 * np.pi, (n, 1, 1, 2))
    bend = 0.018 * rng.standard_normal((n, 1, 1, 2)) * np.sin(2 * np.pi * points[..., ::-1] + phase)
    return points + bend + 0.5 + 0.02 * rng.standard_normal((n, 1, 1, 2))


def _render(points: np.ndarray, present: np.ndarray, width: np.ndarray, size: int) -> np.ndarray:
    """Ink ``[n, size, size]`` uint8 of paths ``[n, strokes, points, 2]`` drawn with pens of ``width`` ``[n]``.

    Each point leaves a Gaussian dot as heavy as the path is long there: along a stroke they add up to a ridge
    of the same height everywhere. A dot is separable, so that all of them are one matrix product per image.
    """
    points = points.astype(np.float32)
    step = np.diff(points, axis=2, append=points[:, :, -1:])
    weight = np.linalg.norm(step, axis=-1) * present[:, :, None]
    sigma = np.maximum(width, 0.45 / size).astype(np.float32)[:, None, None]
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size
    flat = points.reshape(len(points), -1, 2)
    dots = np.exp(-0.5 * ((flat[..., None] - grid) / sigma[..., None]) ** 2)  # [n, all points, 2, size]
    ridge = weight.reshape(len(points), -1, 1) / (np.sqrt(2 * np.pi) * sigma)
    ink = np.matmul((dots[:, :, 1] * ridge).swapaxes(1, 2), dots[:, :, 0])
    return np.rint(255 * np.clip(1.8 * ink - 0.35, 0, 1)).astype(np.uint8)
