"""HFSGM with attention (LAG) over the set, and FiLM instead of a bias.

    python train.py --config=configs/omniglot_hfsgm_lag.py --workdir=runs/hfsgm_lag

p(c_l) sees the images' z_{l+1} (eq. 3).

The papers print no number for it.
Measured with this library: not yet.
"""

from configs import paper


def get_config(split: str = "back_eval"):
    return paper.baseline(split, "hfsgm", aggregate="lag", condition="film")
