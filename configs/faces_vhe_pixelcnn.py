"""Faces, the PixelCNN Variational Homoencoder: a folder of images per video, and any of four objectives.

    python train.py --config=configs/faces_vhe_pixelcnn.py:vhe --config.data.path=DIR --workdir=runs/faces
    python evaluate.py --workdir=runs/faces --tasks=likelihood,classify

DIR and the argument are those of `faces_vhe_deconv`. VHE paper, Table 5: NLL per image and 200-way 1- and 5-shot
accuracy, with `ns` 4229.8 nats, 92.1 %, 98.5 %; with `vhe` 4091.3 nats, 92.5 %, 98.9 %.
Measured with this library: not yet.
"""

from configs import paper


def get_config(objective: str = "vhe"):
    return paper.faces("pixelcnn_vhe", objective, sets_per_batch=16)
