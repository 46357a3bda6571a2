"""SCHA-VAE with attention (LAG) on FS-CIFAR100, 24 layers.

    python train.py --config=configs/cifar100_scha_vae_lag.py --workdir=runs/cifar100_scha_vae_lag

60 classes to train, 20 to validate, 20 to test, split by superclass, 600 images each. The paper says 24 layers at
the resolutions 1, 2, 4, 8, 16, width 128 and batches of 32 sets (Table 5), not how many layers each resolution has:
that is chosen here. It trains with sets of 2 to 20 and prints no number; here sets are of 5. data.stream=False: the
images take 184 MB. Measured with this library: not yet.
"""

from configs import paper

ROWS = 32
EPOCH = 60 * 600 // (5 * ROWS)  # steps


def get_config():
    config = paper.photographs("scha_vae", "cifar100", image_size=32, sets_per_batch=ROWS, epoch=EPOCH)
    config.model.aggregate = "lag"
    config.model.update(encoder="32-9,16-6,8-6,4-6,2-3,1-3", latents="16-6,8-6,4-6,2-3,1-3", decoder="32-9,16-6")
    config.objective.alpha_decay = 0.9
    return config
