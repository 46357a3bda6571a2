"""CHFSGM: three layers of set latents over three of z, all 4x4 maps.

    python train.py --config=configs/omniglot_chfsgm.py --workdir=runs/chfsgm

p(c_l) sees the images' z_{l+1} (eq. 3). Learning rate: the papers name none, this is that of the other convolutional
models.

The papers print no number for it.
Measured with this library: not yet.
"""

from configs import paper


def get_config(split: str = "back_eval"):
    config = paper.baseline(split, "chfsgm")
    config.optimizer.learning_rate = 2e-4
    return config
