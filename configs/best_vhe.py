"""The recipe of `omniglot`, a model that comes with the library: a PixelCNN VHE in three hours on one CPU core.

    python train.py --config=configs/best_vhe.py --workdir=runs/omniglot
    python train.py --config=configs/best_vhe.py:gpu --workdir=runs/gpu   # ten minutes of an H200-class GPU

`cpu_vhe.py` with more features and a wider view of the class: a map c of 4 channels, 8 numbers of an image's own
latent, three gated layers of pixels, and the flips and quarter turns of a character as classes of their own. `make
reproduce` lists what it gives; the VHE paper has an NLL of 61.22 for whole classes (Table 3).

The argument `gpu` is an untested variant for a large batch: bfloat16, ten steps per dispatch, twice the features, and a
length that assumes 6,400 images a second (lower `train.steps` on a slower device, so that the cosine ends in time).
"""

from configs import cpu_vhe, paper


def get_config(device: str = "cpu"):
    if device not in ("cpu", "gpu"):
        raise ValueError(f"the argument of this config is cpu or gpu, not {device!r}")
    config = cpu_vhe.get_config("vhe")
    config.data.dihedral = True
    config.model.update(width=32, c_channels=4, z_channels=8, context_kernel=9)
    config.model.update(pixelcnn_width=32, pixelcnn_layers=3, prior_width=16)
    config.train.update(steps=10_000, log_every=100, eval_every=1_000, save_every=500)
    config.eval.val_sets = 97
    if device == "gpu":
        config.train.cpu_devices = 0
        config.model.update(width=64, pixelcnn_width=64, prior_width=32)
        paper.ten_minutes(config, steps=12_000, sets_per_batch=64)
    return config
