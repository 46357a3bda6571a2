"""The factorial Variational Homoencoder: content times style, on Omniglot in 30 coloured pens.

    python train.py --config=configs/omniglot_factorial_vhe.py --workdir=runs/factorial
    python evaluate.py --workdir=runs/factorial --tasks=shared

The PixelCNN VHE with a latent s of the style beside the map c of the character: at every position the decoder sees the
outer product of both (VHE section 4.3). Every image is drawn in one of 30 random styles, whatever its character; c is
inferred from 5 images of the character, each in its own style, and s from 5 images of the style, of any characters.
A style is of the image, so a set scores one image. Pixels are a mixture of 10 discretised logistics of RGB; the paper
gives neither rate, nor batch, nor this likelihood. It prints pictures (figure 8) and no number.

The argument is a split, `back_eval` or `ns`, or `cpu`: a small model with independent pixels on `back_eval`, for two
CPU cores.
Measured with this library: not yet.
"""

from configs import paper


def get_config(argument: str = "back_eval"):
    config = paper.homoencoder("factorial_vhe", "vhe", sets_per_batch=32)
    paper.set_split(config, "back_eval" if argument == "cpu" else argument, "cpu")
    config.data.update(channels=3, binarize="none", styles=30, style_size=5)
    config.objective.targets = 1
    config.model.pixelcnn_layers = 2
    config.optimizer.clip_at = 10_000.0  # gradients of thousands of nats per image
    epoch = 540  # steps: of one target image per set
    config.train.update(steps=100 * epoch, steps_per_epoch=epoch, eval_every=epoch, save_every=epoch)
    config.train.sample_every = 10 * epoch
    if argument == "cpu":
        config.data.sets_per_batch = 16
        config.model.update(width=24, blocks=4, c_channels=4, z_channels=8, context_kernel=5, context_prior="normal")
        config.model.pixelcnn_layers = 0
        config.optimizer.update(learning_rate=4e-3, warmup=50, schedule="cosine", decay_factor=0.02)
        config.train.update(steps=1_000, log_every=50, eval_every=250, save_every=250, sample_every=0)
        config.eval.update(val_sets=64, max_sets=200, importance_samples=20)
    return config
