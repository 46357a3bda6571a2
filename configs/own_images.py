"""Your own images: a folder with one folder per class, any image files, no code.

    python train.py --config=configs/own_images.py --config.data.path=DIR --workdir=runs/mine

    DIR/cat/001.jpg  DIR/cat/002.png ...   DIR/dog/a.jpg ...

The config looks at the folder and chooses: drawings and silhouettes become one binary channel, light on dark, of 28x28
pixels, photographs grey levels or colours of 32x32 or 64x64; sets of up to five images; few images get a narrower
model. It says so, and any other `--config.KEY=VALUE` wins. A random tenth of the classes is kept for validation and a
fifth for test: the model learns what varies between classes and draws more of one it has not seen, so dozens of classes
with a handful of images each are the least that makes sense.

The time is `train.minutes`, 10 unless given: the learning rate falls over the steps that a slow CPU core makes in it.
`--config.data.corrupt=skip` passes over files that cannot be read instead of refusing the folder.
"""

import collections
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image

from configs import quickstart
from hfsgm_jax import default_config
from hfsgm_jax.data.folder import list_files, open_image
from hfsgm_jax.data.resize import square
from hfsgm_jax.errors import ConfigError, DataError

SET_SIZE = 5
FEW = 20  # classes: below, a warning
FEW_IMAGES = 300  # below, a model of half the width
PHOTOGRAPHS = {32: 300, 64: 150}  # pixels -> steps a minute of a slow CPU core
DRAWINGS = {28: 150, 32: 150}
LOOKED_AT = 200  # images by which a folder is judged
BETWEEN = 0.2  # of the pixels of a drawing, at most, lie between its paper and its ink
COLORED = 12  # levels between the channels of a pixel of a colour photograph, on average
MEMORY = {True: "1 GiB at 28 pixels", False: "1.4 GiB at 64 pixels"}  # measured, of drawings and of photographs


def get_config(data_path=None, data_image_size=None, train_minutes=10):
    """The arguments are `--config.data.path` and so on, where they are given."""
    seen = data_path and look(data_path)
    drawn = not seen or seen.drawn
    sizes = DRAWINGS if drawn else PHOTOGRAPHS
    size = int(data_image_size or (28 if drawn else 64 if seen.side >= 48 else 32))
    if size not in sizes:
        raise ConfigError(f"data.image_size={size}: this config has models of {' and '.join(map(str, sizes))} pixels")
    config = quickstart.get_config() if drawn else _of_photographs(seen.colored)
    config.data.update(source="folder", split="random", image_size=size, sets_per_batch=8)
    config.train.update(log_every=50, eval_every=500, save_every=500, sample_every=0, cpu_devices=2)
    config.train.minutes = float(train_minutes)
    config.train.steps = round(sizes[size] * (config.train.minutes or 10))
    config.eval.update(val_sets=40, max_sets=100, importance_samples=50, iterations=10)
    if seen:
        config.data.update(set_size=min(SET_SIZE, seen.smallest), ink=seen.drawn)
        config.model.width //= 2 if seen.images < FEW_IMAGES else 1
        _say(config, data_path, seen)
    return config


def _of_photographs(colored):
    """A Neural Statistician: in minutes it draws what is alike in a class, blurred, where a SCHA-VAE draws texture."""
    config = default_config("ns")
    config.data.update(channels=3 if colored else 1, binarize="none")
    config.model.update(likelihood="discretized_normal", width=128, c_channels=64, z_channels=32)
    config.model.update(layers=1, blocks=1, encoder_width=16)
    config.optimizer.update(learning_rate=2e-3, schedule="cosine", decay_factor=0.02, warmup=50)
    return config


def _say(config, path, seen):
    """What was seen, what was chosen, and how to choose otherwise."""
    data, train = config.data, config.train
    photographs = f"{'colour' if seen.colored else 'grey'} photographs"
    print(f"{path}: {seen.images} images of {seen.classes} classes, {seen.smallest} in the smallest, ", end="")
    print(f"{seen.side} pixels: {'drawings' if seen.drawn else photographs}")
    if seen.classes < FEW:
        print(f"{seen.classes} classes are few: the model may learn them, and not what a new one can be like")
    print(f"chosen: {data.image_size} pixels, {'RGB' if data.channels == 3 else 'one channel'}, ", end="")
    print(f"sets of {data.set_size}, {config.model.likelihood}; {train.steps} steps or {train.minutes:g} minutes")
    print(f"model {config.model.name} of width {config.model.width}; memory about {MEMORY[seen.drawn]}")
    print("to choose otherwise: --config.data.image_size=32, --config.train.minutes=60, ... (docs/keys.md)", flush=True)


class Look(NamedTuple):
    """What the images of a folder are like.

    Attributes:
      classes, images: their numbers.
      smallest: images of the smallest class.
      side: median of the shorter sides, pixels.
      drawn: drawings or silhouettes, two levels and few pixels between them.
      colored: not grey.
    """

    classes: int
    images: int
    smallest: int
    side: int
    drawn: bool
    colored: bool


def look(folder):
    """What the images of a folder with a folder per class are like, from some of every part of it.

    Raises:
      DataError: there are no classes or images, or none of those looked at can be read.
    """
    files = list_files(folder)
    some = [files[i][1] for i in np.unique(np.linspace(0, len(files) - 1, LOOKED_AT).astype(int))]
    with ThreadPoolExecutor() as threads:
        found = [seen for seen in threads.map(_look_at, some) if seen]  # training names those that are unreadable
    if not found:
        names = ", ".join(some[:10]) + ", ..." * (len(some) > 10)
        raise DataError(f"{len(some)} images in {folder!r} were tried, and none can be read: {names}")
    side, between, color = np.median(found, axis=0)
    sizes = collections.Counter(name for name, _ in files).values()
    return Look(len(sizes), len(files), min(sizes), int(side), bool(between < BETWEEN), bool(color > COLORED))


def _look_at(file):
    """Shorter side, share of pixels between the two ends of the levels, colour."""
    try:
        image = open_image(file, 3, 64)
    except DataError:
        return None
    with Image.open(file) as header:  # `image` may be decoded at a fraction of its size
        side = min(header.size)
    levels = np.asarray(square(image, min(64, *image.size)), np.float32)
    grey = levels.mean(-1)
    low, high = grey.min(), grey.max()
    scaled = (grey - low) / max(1.0, high - low)
    return side, ((scaled > 0.2) & (scaled < 0.8)).mean(), np.ptp(levels, axis=-1).mean()
