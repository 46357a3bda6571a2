"""The deconvolutional Variational Homoencoder: the networks of the Neural Statistician, and any of four objectives.

    python train.py --config=configs/vhe_deconv.py:vhe --workdir=runs/vhe
    python evaluate.py --workdir=runs/vhe --tasks=likelihood --eval.set_size=20  # Table 3
    python evaluate.py --workdir=runs/vhe --tasks=classify                      # Tables 1 and 2
    python evaluate.py --workdir=runs/vhe --tasks=kl_layers,report --eval.split=train  # Table 1, KL of c

The argument is an objective, `ns`, `resample`, `rescale` or `vhe` (default): the rows of Table 3 of the VHE paper
(trained on 25 alphabets); with `,augmented` after it, those of Table 1 (on 1,200 characters). Whole classes of 20, nats
per image: 102.84, 110.30, 109.01, 104.67.
Measured with this library: not yet.
"""

from configs import paper


def get_config(argument: str = "vhe"):
    config = paper.homoencoder("bns", argument, sets_per_batch=32)
    config.model.update(width=256, c_channels=512, z_channels=16)
    config.objective.alpha = 1.0
    config.objective.alpha_decay = 0.5
    config.optimizer.clip = "value"
    config.optimizer.clip_at = 0.5
    return config
