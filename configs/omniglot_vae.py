"""A VAE with three layers of z and no set latent.

    python train.py --config=configs/omniglot_vae.py --workdir=runs/vae

Every image is a set of its own.

The paper's Table 1, nats per image (single images; NLL: 1000 importance samples of each):
back_eval, resize gmn: NELBO 101.4, NLL 88.4. ns, Burda's 28x28 images: NELBO 101.5, NLL 95.9.
Measured with this library: not yet.
"""

from configs import paper


def get_config(split: str = "back_eval"):
    return paper.baseline(split, "vae", set_size=1)
