"""The Neural Statistician with attention (LAG) instead of the mean over the set.

    python train.py --config=configs/omniglot_ns_lag.py --workdir=runs/ns_lag

The papers print no number for it.
Measured with this library: not yet.
"""

from configs import paper


def get_config(split: str = "back_eval"):
    return paper.baseline(split, "ns", aggregate="lag")
