"""A small PixelCNN VHE that shows on two CPU cores what the objectives do with the set latent.

    python train.py --config=configs/cpu_vhe.py:vhe --workdir=runs/cpu_vhe
    python -m scripts.vhe_effect runs/vhe_effect   # all four objectives, three seeds, and the table

The argument is an objective: `ns`, `resample`, `rescale` or `vhe` (default), with `,augmented` after it for the
augmentation of Table 1 of the VHE paper, on the classes of `back_eval`. The architecture of `vhe_pixelcnn.py` with
fewer features: enough to see whether c is used, far from the paper's likelihoods.
Measured with this library (results/vhe_effect, three seeds): see docs/results.md.
"""

from configs import vhe_pixelcnn


def get_config(argument: str = "vhe"):
    config = vhe_pixelcnn.get_config(argument)
    config.data.update(split="back_eval", sets_per_batch=8)
    config.objective.targets = None if argument.startswith(("ns", "rescale")) else 5
    config.model.update(width=16, c_channels=2, z_channels=4, blocks=3, context_kernel=5)
    config.model.update(pixelcnn_width=16, prior_width=8)
    config.optimizer.update(learning_rate=2e-3, warmup=50, schedule="cosine", decay_factor=0.05)
    config.train.cpu_devices = 1
    config.train.update(steps=1000, log_every=50, eval_every=500, save_every=250, sample_every=0, steps_per_epoch=0)
    config.eval.update(importance_samples=10, importance_samples_z=2, max_sets=320, val_sets=80)
    return config
