"""SCHA-VAE with attention (LAG) on CelebA at 64 pixels, 24 layers.

    python train.py --config=configs/celeba_scha_vae_lag.py --workdir=runs/celeba_scha_vae_lag

Identities with at least 20 images, in ascending order: 70 % to train, 10 % to validate, 20 % to test (4444, 635, 1270
in the paper). The centred square of an image, 178 pixels, is resized to 64. Images are read from disk while training
(data.stream). The paper says 3 to 24 layers at the resolutions 1, 2, 4, 8, 16, width 128 to 256 and batches of 16
sets (Table 5), not how many layers each resolution has: that is chosen here. It trains with sets of 2 to 20; here sets
are of 5.

`:fig9` is the model of the paper's figure 9: 3 layers, all at 4x4, NELBO 4.155 bits per dimension.
Measured with this library: not yet.
"""

from configs import paper

ROWS = 16
EPOCH = 1500  # steps: about 4,444 identities of 27 images in batches of 16 x 5
LATENTS = {"24": "16-6,8-6,4-6,2-3,1-3", "fig9": "4-3"}
DECODERS = {"24": "64-3,32-6,16-6", "fig9": "64-3,32-6,16-6,8-6,4-6"}


def get_config(layers: str = "24"):
    if layers not in LATENTS:
        raise ValueError(f"the argument of this config is one of {sorted(LATENTS)}, not {layers!r}")
    config = paper.photographs("scha_vae", "celeba", image_size=64, sets_per_batch=ROWS, epoch=EPOCH)
    config.data.stream = True
    config.model.update(aggregate="lag", encoder="64-3,32-6,16-6,8-6,4-6,2-3,1-3")
    config.model.update(latents=LATENTS[layers], decoder=DECODERS[layers])
    config.objective.alpha_decay = 0.9
    return config
