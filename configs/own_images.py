"""Your own images: a folder with one folder per class, any image files, no code.

    python train.py --config=configs/own_images.py --config.data.path=DIR --workdir=runs/mine

    DIR/cat/001.jpg  DIR/cat/002.png ...   DIR/dog/a.jpg ...

The config looks at the folder and chooses: drawings and silhouettes become one binary channel, light on dark, of 28x28
pixels, photographs grey levels or colours of 32x32 or 64x64; sets of up to five images. It says so, and any other
`--config.KEY=VALUE` wins. A random tenth of the classes is kept for validation and a fifth for test: the model learns
what varies between classes and draws more of one it has not seen, so dozens of classes with a handful of images each
are the least that makes sense.

The time is `train.minutes`, 10 unless given: the learning rate falls over the steps that two CPU cores make in it.
`--config.data.corrupt=skip` passes over files that cannot be read instead of refusing the folder.
"""

from hfsgm_jax import default_config
from hfsgm_jax.data import folder
from hfsgm_jax.errors import ConfigError, check_choice

SET_SIZE = 5
FEW = 20  # classes: below, a warning
# Steps a minute of two slow CPU cores, and the model's pyramids, by the pixels of a side.
SIZES = {
    28: (190, dict(encoder="8-3,4-2,1-1", decoder="8-3")),
    32: (150, dict(encoder="8-3,4-2,1-1", decoder="8-3")),
    64: (80, dict(encoder="16-2,8-2,4-2,1-1", decoder="16-2,8-2")),
}


def get_config(data_path=None, data_image_size=None, train_minutes=10):
    """The arguments are `--config.data.path` and so on, where they are given."""
    config = default_config("scha_vae")
    data, model = config.data, config.model
    data.update(source="folder", split="random", sets_per_batch=8)
    model.update(aggregate="lag", width=64, c_channels=16, z_channels=16, patch=4, latents="8-2,4-2,1-1")
    config.optimizer.update(learning_rate=2e-3, schedule="cosine", decay_factor=0.02, warmup=100, ema=0.995)
    config.train.update(log_every=50, eval_every=500, save_every=500, sample_every=0, cpu_devices=1)
    config.eval.update(val_sets=40, max_sets=100, importance_samples=50, iterations=10)

    seen = data_path and folder.look(data_path)
    if seen:
        data.channels = 3 if seen.colored and not seen.drawn else 1
        data.set_size = min(SET_SIZE, seen.smallest)
        data.invert = seen.drawn and seen.dark
        if not seen.drawn:
            data.binarize, model.likelihood = "none", "discretized_normal"
    fits = 28 if not seen or seen.drawn else 64 if seen.side >= 48 else 32
    data.image_size = int(data_image_size or fits)
    check_choice("data.image_size", data.image_size, SIZES, ConfigError)
    steps_per_minute, pyramids = SIZES[data.image_size]
    model.update(pyramids)
    config.train.minutes = float(train_minutes)
    config.train.steps = max(100, round(steps_per_minute * float(train_minutes)))
    if seen:
        _say(config, data_path, seen)
    return config


def _say(config, path, seen):
    """What was seen, what was chosen, and how to choose otherwise."""
    data, train = config.data, config.train
    photographs = f"{'colour' if seen.colored else 'grey'} photographs"
    drawings = f"drawings, {'dark on light' if seen.dark else 'light on dark'}"
    print(f"{path}: {seen.images} images of {seen.classes} classes, {seen.smallest} in the smallest, ", end="")
    print(f"{seen.side} pixels: {drawings if seen.drawn else photographs}")
    if seen.classes < FEW:
        print(f"{seen.classes} classes are few: the model may learn them, and not what a new one can be like")
    print(
        f"chosen: {data.image_size}x{data.image_size} pixels, {data.channels} channel{'s' * (data.channels > 1)}, ",
        end="",
    )
    print(f"sets of {data.set_size}, {config.model.likelihood}; {train.steps} steps or {train.minutes:g} minutes")
    print("to choose otherwise: --config.data.image_size=32, --config.train.minutes=60, ... (docs/keys.md)", flush=True)
