"""The basic Neural Statistician: one set latent, one layer of z.

    python train.py --config=configs/omniglot_bns.py --workdir=runs/bns

The papers print no number for it.
Measured with this library: not yet.
"""

from configs import paper


def get_config(split: str = "back_eval"):
    return paper.baseline(split, "bns")
