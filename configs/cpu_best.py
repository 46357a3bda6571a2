"""A SCHA-VAE-LAG on patches of 4x4 pixels: Omniglot in at most 20 minutes on a CPU.

    python train.py --config=configs/cpu_best.py --workdir=runs/cpu_best

The model of `cpu_omniglot_scha_vae_lag.py`, conditions included, but its encoder and decoder begin and end with
patches of 4x4 pixels: no convolution works on maps of 32 or 16 pixels.

`best_scha_vae.py` is this config on the papers' strokes and for longer.
"""

from configs import cpu_omniglot_scha_vae_lag


def get_config():
    config = cpu_omniglot_scha_vae_lag.get_config()
    config.model.patch = 4
    config.model.encoder = "8-4,4-2,2-2,1-2"
    config.model.decoder = "8-4"
    config.data.sets_per_batch = 8
    config.optimizer.ema = 0.998
    config.train.cpu_devices = 2
    config.train.steps = 4_600
    config.train.log_every = 50
    config.train.eval_every = 500
    config.train.save_every = 500
    config.train.sample_every = 0
    return config
