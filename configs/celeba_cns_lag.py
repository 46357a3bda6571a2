"""The convolutional Neural Statistician with attention (LAG) on CelebA at 64 pixels.

    python train.py --config=configs/celeba_cns_lag.py --workdir=runs/celeba_cns_lag

The data and schedule of `celeba_scha_vae_lag`. The paper's figure 9: NELBO 4.213 bits per dimension.
Measured with this library: not yet.
"""

from configs import celeba_scha_vae_lag as scha
from configs import paper


def get_config():
    config = paper.photographs("cns", "celeba", image_size=64, sets_per_batch=scha.ROWS, epoch=scha.EPOCH)
    config.data.stream = True
    config.model.aggregate = "lag"
    return config
