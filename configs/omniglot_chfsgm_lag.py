"""CHFSGM with attention (LAG) over the set in the posterior of c.

    python train.py --config=configs/omniglot_chfsgm_lag.py --workdir=runs/chfsgm_lag

p(c_l) sees the mean of the images' z_{l+1} (eq. 3), as in the reference code, whose learning rate this is.

The papers print no number for it.
Measured with this library: not yet.
"""

from configs import paper


def get_config(split: str = "back_eval"):
    return paper.baseline(split, "chfsgm", aggregate="lag")
