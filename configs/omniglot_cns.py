"""The convolutional Neural Statistician: latents are 4x4 maps.

    python train.py --config=configs/omniglot_cns.py --workdir=runs/cns

The paper's Table 1, nats per image (sets of 5 in training and test; NLL: 1000 joint importance samples):
back_eval, resize gmn: NELBO 83.4, NLL 77.5. ns, Burda's 28x28 images: NELBO 92.9, NLL 89.7.
Measured with this library: not yet.
"""

from configs import paper


def get_config(split: str = "back_eval"):
    config = paper.baseline(split, "cns")
    config.optimizer.learning_rate = 2e-4
    return config
