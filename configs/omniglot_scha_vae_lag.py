"""SCHA-VAE with attention (LAG) over the set.

    python train.py --config=configs/omniglot_scha_vae_lag.py --workdir=runs/scha_vae_lag

The paper's Table 1, nats per image (sets of 5 in training and test; NLL: 1000 joint importance samples):
back_eval, resize gmn: NELBO 77.9, NLL 71.5. ns, Burda's 28x28 images: NELBO 88.4, NLL 85.4.
Measured with this library: not yet.
"""

from configs import paper


def get_config(split: str = "back_eval"):
    return paper.scha_vae(split, aggregate="lag")
