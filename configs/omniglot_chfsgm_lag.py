"""CHFSGM with attention (LAG) over the set, and FiLM instead of a bias.

    python train.py --config=configs/omniglot_chfsgm_lag.py --workdir=runs/chfsgm_lag

p(c_l) sees the images' z_{l+1} (eq. 3). Learning rate: the papers name none, this is that of the other convolutional
models.

The papers print no number for it.
Measured with this library: not yet.
"""

from configs import paper


def get_config(split: str = "back_eval"):
    config = paper.baseline(split, "chfsgm", aggregate="lag", condition="film")
    config.optimizer.learning_rate = 2e-4
    return config
