"""Sources: DOUBLE-MNIST and TRIPLE-MNIST, composed from MNIST as Sun's generator does (2019, MultiDigitMNIST).

A class is a number, 00..99 or 000..999. An image has a cell for each digit, side by side on a square canvas; a digit
drawn at random from all of its kind stands at a random position in its cell, any height. The generator draws a position
below (and never at) the largest one, so that the cells of three digits on 84 pixels leave no choice.
"""

import copy
from typing import Any

import numpy as np

from hfsgm_jax.data import tfds_sources
from hfsgm_jax.data.dataset import Dataset, group_by_class
from hfsgm_jax.data.resize import resize_images

VERSION = "1"  # part of the cache's file name: raise it when a drawing changes
IMAGES = 1000  # of a class
CANVAS = {2: 64, 3: 84}  # digits -> pixels, height and width
_SHARES = (64, 16)  # per cent of the classes for training and validation; the rest is test
_SPLIT_SEED = 123  # the generator's own: the classes of the parts are the papers', whatever data.seed is
_DIGIT = 28  # pixels


def read(config: Any, digits: int, part: int) -> Dataset:
    """The images of one part (0 train, 1 validation, 2 test) at ``data.image_size``, drawn by ``data.seed``.

    Composed from the MNIST splits that are prepared (`info`). An image depends on the seed and its class alone.
    """
    raw = copy.deepcopy(config)
    raw.update(resize="box", image_size=_DIGIT, channels=1)  # as they are
    mnist = tfds_sources.ALL_DIGITS.read(raw)
    by_digit = np.split(mnist.images.to_memory()[..., 0], mnist.start[1:])
    classes = part_classes(digits)[part]
    images = np.empty((len(classes), IMAGES, config.image_size, config.image_size, config.channels), np.uint8)
    for row, number in enumerate(classes):
        rng = np.random.default_rng([config.seed, digits, number])
        canvas = compose(by_digit, int(number), digits, rng)[..., None]
        images[row] = resize_images(canvas, "box", config.image_size, config.channels)
    images, ids = images.reshape(-1, *images.shape[2:]), np.repeat(classes, IMAGES)
    info = mnist.info | {"composed_of": "mnist", "canvas": CANVAS[digits], "images_per_class": IMAGES}
    return group_by_class(images, ids, np.zeros_like(ids), np.full(len(ids), part), info)


def part_classes(digits: int) -> list[np.ndarray]:
    """Numbers of the classes of train, val and test, each in ascending order: 64, 16 and 20 %."""
    # A legacy generator: its stream is frozen for good, which is what makes these the generator's classes.
    order = list(range(10**digits))
    np.random.RandomState(_SPLIT_SEED).shuffle(order)
    return [np.sort(ids) for ids in np.split(np.array(order), np.cumsum(_SHARES) * len(order) // 100)]


def compose(by_digit: list[np.ndarray], number: int, digits: int, rng: np.random.Generator) -> np.ndarray:
    """Canvases ``[IMAGES, side, side]`` uint8 of one class, from images ``[n, 28, 28]`` of each digit."""
    side, cell = CANVAS[digits], CANVAS[digits] // digits
    canvas = np.zeros((IMAGES, side, side), np.uint8)
    image = np.arange(IMAGES)[:, None, None]
    for position, digit in enumerate(f"{number:0{digits}}"):
        kind = by_digit[int(digit)]
        chosen = kind[rng.integers(len(kind), size=IMAGES)]
        top = rng.integers(max(side - _DIGIT, 1), size=IMAGES)
        left = rng.integers(max(cell - _DIGIT, 1), size=IMAGES) + position * side // digits
        rows, columns = (start[:, None] + np.arange(_DIGIT) for start in (top, left))
        canvas[image, rows[:, :, None], columns[:, None, :]] = chosen
    return canvas
