"""The convolutional Neural Statistician with attention (LAG) over the set.

    python train.py --config=configs/omniglot_cns_lag.py --workdir=runs/cns_lag

The paper's Table 1, nats per image (sets of 5 in training and test; NLL: 1000 joint importance samples):
back_eval, resize gmn: NELBO 83.8, NLL 77.6. ns, Burda's 28x28 images: NELBO 92.8, NLL 89.7.
Measured with this library: not yet.
"""

from configs import paper


def get_config(split: str = "back_eval"):
    return paper.baseline(split, "cns", aggregate="lag")
