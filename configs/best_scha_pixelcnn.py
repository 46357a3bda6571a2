"""The recipe of `omniglot`, a model that comes with the library: a SCHA-VAE-LAG whose PixelCNN head keeps the class.

    python train.py --config=configs/best_scha_vae.py --workdir=runs/omniglot-scha-first
    python train.py --config=configs/best_scha_pixelcnn.py --workdir=runs/omniglot

Trained from random parameters, a head of pixels explains an image without its class. Here the latents know the class
before there is a head: the run starts with the parameters of `best_scha_vae.py`, and goes on by the objective of the
VHE, which charges a class's images for c once and scores images that q(c) has not seen. At this learning rate it
diverges from the parameters of the second run, the shipped `omniglot-scha`.
"""

from configs import best_scha_vae


def get_config():
    config = best_scha_vae.get_config()
    config.model.update(pixelcnn_layers=2, pixelcnn_width=32)
    config.objective.update(name="vhe", targets=10, kl_warmup=1_000)
    config.data.sets_per_batch = 4
    config.train.update(start="runs/omniglot-scha-first", steps=8_000)
    config.train.update(log_every=100, eval_every=1_200, save_every=300)
    return config
