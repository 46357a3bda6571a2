"""The convolutional Neural Statistician on FS-CIFAR100.

    python train.py --config=configs/cifar100_cns.py --workdir=runs/cifar100_cns

The data and schedule of `cifar100_scha_vae_lag`; the paper prints no number. Measured with this library: not yet.
"""

from configs import cifar100_scha_vae_lag as scha
from configs import paper


def get_config():
    config = paper.photographs("cns", "cifar100", image_size=32, sets_per_batch=scha.ROWS, epoch=scha.EPOCH)
    return config
