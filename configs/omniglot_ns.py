"""The Neural Statistician: one set latent, three layers of z.

    python train.py --config=configs/omniglot_ns.py --workdir=runs/ns

The paper's Table 1, nats per image (sets of 5 in training and test; NLL: 1000 joint importance samples):
back_eval, resize gmn: NELBO 91.9, NLL 85.6. ns, Burda's 28x28 images: NELBO 96.6, NLL 92.4.
Measured with this library: not yet.
"""

from configs import paper


def get_config(split: str = "back_eval"):
    return paper.baseline(split, "ns")
