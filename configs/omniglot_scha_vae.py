"""SCHA-VAE: 18 layers of set and image latents at 1, 2, 4 and 8 pixels, mean over the set.

    python train.py --config=configs/omniglot_scha_vae.py --workdir=runs/scha_vae

The paper's Table 1, nats per image (sets of 5 in training and test; NLL: 1000 joint importance samples):
back_eval, resize gmn: NELBO 79.4, NLL 72.7. ns, Burda's 28x28 images: NELBO 89.4, NLL 85.8.
Measured with this library: not yet.
"""

from configs import paper


def get_config(split: str = "back_eval"):
    return paper.scha_vae(split)
