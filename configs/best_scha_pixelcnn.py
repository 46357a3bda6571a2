"""The recipe of `omniglot`, a model that comes with the library: a SCHA-VAE-LAG whose PixelCNN head keeps the class.

    python train.py --config=configs/best_scha_pixelcnn.py --workdir=runs/omniglot-first
    python train.py --config=configs/best_scha_pixelcnn.py --config.train.start=runs/omniglot-first \
      --workdir=runs/omniglot

Trained from random parameters, a head of pixels explains an image without its class. Here the latents know the class
before there is a head: the first run starts with the parameters of `omniglot-scha` (that of the model that ships, with
those of the second of its four runs) and goes on by the objective of the VHE, which charges a class's images for c
once and scores images that q(c) has not seen; the second trains on. At a learning rate of 2e-3 the first run diverges.
"""

from configs import best_scha_vae


def get_config():
    config = best_scha_vae.get_config()
    config.model.update(pixelcnn_layers=2, pixelcnn_width=32)
    config.objective.update(name="vhe", targets=10)
    config.optimizer.learning_rate = 1e-3
    config.data.sets_per_batch = 4
    config.train.update(start="omniglot-scha", steps=10_000)
    config.train.update(log_every=100, eval_every=1_200, save_every=300)
    return config
