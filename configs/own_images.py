"""Your own images: a folder with one folder per class, any image files, no code.

    python train.py --config=configs/own_images.py --config.data.path=DIR --workdir=runs/mine

    DIR/cat/001.jpg  DIR/cat/002.png ...   DIR/dog/a.jpg ...

A random tenth of the classes is kept for validation and a fifth for test: the model learns what varies between
classes and draws more of one it has not seen, so dozens of classes with a handful of images each are the least that
makes sense. The images become 32x32 colour pixels (`data.image_size`: 28, 32, 40 or 64). `--config.data.corrupt=skip`
passes over files that cannot be read instead of refusing the folder.

Drawings or characters, dark or light strokes on a plain ground, are better served by one binary channel:

    --config.data.channels=1 --config.data.binarize=dynamic --config.model.likelihood=bernoulli
"""

from hfsgm_jax import default_config


def get_config():
    config = default_config("scha_vae")
    config.data.source = "folder"
    config.data.split = "random"
    config.data.image_size = 32
    config.data.channels = 3
    config.data.binarize = "none"
    config.data.set_size = (2, 8)
    config.data.sets_per_batch = 16

    config.model.aggregate = "lag"
    config.model.likelihood = "discretized_logistics"
    config.model.encoder = "32-4,16-4,8-2,4-2,2-2,1-2"
    config.model.latents = "8-2,4-2,2-2,1-2"
    config.model.decoder = "32-4,16-4,8-2"

    config.optimizer.learning_rate = 5e-4
    config.optimizer.warmup = 200
    config.optimizer.ema = 0.999

    config.train.steps = 50_000
    config.train.eval_every = 1_000
    config.train.save_every = 1_000
    config.train.sample_every = 5_000
    return config
