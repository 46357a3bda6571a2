"""Faces, the deconvolutional Variational Homoencoder: a folder of images per video, and any of four objectives.

    python train.py --config=configs/faces_vhe_deconv.py:vhe --config.data.path=DIR --workdir=runs/faces
    python evaluate.py --workdir=runs/faces --tasks=likelihood,classify

DIR holds a folder per video (or person), such as the aligned YouTube Faces, cropped by half; images become 40x40. The
argument is an objective, `vhe` (default), `ns`, `resample` or `rescale`. VHE paper, Table 5: NLL per image and 200-way
1- and 5-shot accuracy, with `ns` 12512.4 nats, 39.2 %, 49.0 %; with `vhe` 12717.6 nats, 37.2 %, 44.8 %. Its network is
that of the Neural Statistician's faces; this one is that of Omniglot, at 40 pixels.
Measured with this library: not yet.
"""

from configs import paper


def get_config(objective: str = "vhe"):
    config = paper.faces("bns", objective, sets_per_batch=32)
    config.model.update(width=256, c_channels=512, z_channels=16)
    return config
