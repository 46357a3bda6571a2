"""SCHA-VAE with the maximum over the set.

    python train.py --config=configs/omniglot_scha_vae_max.py --workdir=runs/scha_vae_max

The papers print no number for it.
Measured with this library: not yet.
"""

from configs import paper


def get_config(split: str = "back_eval"):
    return paper.scha_vae(split, aggregate="max")
