"""A small SCHA-VAE-LAG on procedural characters: a few minutes on a CPU, no data to download.

    make quickstart

or `python train.py --config=configs/quickstart.py --workdir=runs/quickstart`.

Measured with this library (results/quickstart, one core): test NELBO 95.1, 212.8 for the best independent-pixel model;
93 % of 20-way conditional samples are recognised.
"""

from hfsgm_jax import default_config


def get_config():
    config = default_config("scha_vae")
    config.data.source = "strokes"
    config.data.set_size = 5

    config.model.aggregate = "lag"
    config.model.width = 96
    config.model.c_channels = 16
    config.model.z_channels = 16
    config.model.patch = 4
    config.model.encoder = "8-1"
    config.model.latents = "8-2"
    config.model.decoder = "8-1"

    config.data.sets_per_batch = 8
    config.optimizer.learning_rate = 3e-3
    config.optimizer.warmup = 50
    config.optimizer.schedule = "cosine"
    config.optimizer.decay_factor = 0.02
    config.optimizer.ema = 0.99

    config.train.cpu_devices = 2
    config.train.minutes = 6.0  # of a slow machine
    config.train.steps = 1_400
    config.train.log_every = 50
    config.train.eval_every = 700
    config.train.save_every = 700
    config.train.sample_every = 0  # the pictures are those of evaluate.py

    config.eval.max_sets = 100
    config.eval.val_sets = 80
    config.eval.importance_samples = 50
    config.eval.iterations = 10
    return config
