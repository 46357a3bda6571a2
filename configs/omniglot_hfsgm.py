"""HFSGM: three layers of set latents over three of z, all vectors.

    python train.py --config=configs/omniglot_hfsgm.py --workdir=runs/hfsgm

p(c_l) sees the images' z_{l+1} (eq. 3).

The papers print no number for it.
Measured with this library: not yet.
"""

from configs import paper


def get_config(split: str = "back_eval"):
    return paper.baseline(split, "hfsgm")
