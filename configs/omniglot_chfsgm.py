"""CHFSGM: three layers of set latents over three of z, all 4x4 maps.

    python train.py --config=configs/omniglot_chfsgm.py --workdir=runs/chfsgm

p(c_l) sees the images' z_{l+1} (eq. 3). The papers name no learning rate; this is the reference code's.

The papers print no number for it.
Measured with this library: not yet.
"""

from configs import paper


def get_config(split: str = "back_eval"):
    return paper.baseline(split, "chfsgm")
