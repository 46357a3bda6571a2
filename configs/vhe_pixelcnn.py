"""The PixelCNN Variational Homoencoder: a map of the class, an autoregressive decoder, and any of four objectives.

    python train.py --config=configs/vhe_pixelcnn.py:vhe --workdir=runs/vhe
    python evaluate.py --workdir=runs/vhe --tasks=likelihood --eval.set_size=20  # Table 3
    python evaluate.py --workdir=runs/vhe --tasks=classify                      # Tables 1 and 2
    python evaluate.py --workdir=runs/vhe --tasks=kl_layers,report --eval.split=train  # Table 1, KL of c

The argument is an objective, `ns`, `resample`, `rescale` or `vhe` (default): the rows of Table 3 of the VHE paper
(trained on 25 alphabets); with `,augmented` after it, those of Table 1 (on 1,200 characters of all alphabets, which
leaves no alphabet for Lake's runs: `--config.data.split=back_eval` does). Whole classes of 20, nats per image: 73.50,
66.42, 71.37, 61.22.
The paper's masked convolutions have a blind spot, which the two stacks of ours do not. Batch size and learning rate are
not in the paper.
Measured with this library: not yet.
"""

from configs import paper


def get_config(argument: str = "vhe"):
    return paper.homoencoder("pixelcnn_vhe", argument, sets_per_batch=16)
