"""SCHA-VAE as the paper's eq. 3 writes it: the prior of c_l sees the images' z_{l+1}.

    python train.py --config=configs/omniglot_scha_vae_eq3.py --workdir=runs/scha_vae_eq3

The published numbers are of the prior without them (`omniglot_scha_vae.py`). Here the bound holds for the set it is
evaluated on; the nested estimator and the VHE objectives do not apply.

The papers print no number for it.
Measured with this library: not yet.
"""

from configs import paper


def get_config(split: str = "back_eval"):
    return paper.scha_vae(split, prior_sees_images=True)
