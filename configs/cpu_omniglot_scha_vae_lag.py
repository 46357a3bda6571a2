"""A SCHA-VAE-LAG for 20 minutes on two CPU cores.

    python train.py --config=configs/cpu_omniglot_scha_vae_lag.py --workdir=runs/cpu

Eight layers of latents at 1, 2, 4 and 8 pixels, 2.6 M parameters, plain ELBO. Conditions: back_eval classes,
105x105 images resized to 28x28 by a box filter, binarised anew every time in training and once for the tests,
640 test sets of 5 images. `--config.data.resize=gmn` gives the data of the paper's tables; bounds on the two are
never comparable. `--config.model.decoder_context=top_left --config.model.border=nearest`
is the decoder of the reference code.

No paper has a number for these test sets.
"""

from hfsgm_jax import default_config


def get_config():
    config = default_config("scha_vae")
    config.data.source = "omniglot"
    config.data.split = "back_eval"
    config.data.resize = "box"
    config.data.set_size = 5

    config.model.aggregate = "lag"
    config.model.encoder = "32-4,16-4,8-2,4-2,2-2,1-2"
    config.model.latents = "8-2,4-2,2-2,1-2"
    config.model.decoder = "32-4,16-4,8-2"

    # Small batches and a cosine that ends with the time: what learns most in 20 minutes.
    config.data.sets_per_batch = 4
    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup = 100
    config.optimizer.schedule = "cosine"
    config.optimizer.decay_factor = 0.02
    config.optimizer.ema = 0.99

    config.train.minutes = 20.0
    config.train.steps = 2_800
    config.train.log_every = 20
    config.train.eval_every = 400
    config.train.save_every = 400
    config.train.sample_every = 1_400
    config.eval.max_sets = 640
    config.eval.importance_samples = 10  # more take a CPU hours
    return config
