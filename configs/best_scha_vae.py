"""The recipe of `omniglot-scha`, a model that comes with the library: a SCHA-VAE-LAG in four runs on one CPU core.

    python train.py --config=configs/best_scha_vae.py --workdir=runs/omniglot-scha-first
    python train.py --config=configs/best_scha_vae.py:longer --config.train.start=runs/omniglot-scha-first \
      --workdir=runs/omniglot-scha-second
    python train.py --config=configs/best_scha_vae.py:longer --config.train.start=runs/omniglot-scha-second \
      --workdir=runs/omniglot-scha-third
    python train.py --config=configs/best_scha_vae.py:longest --config.train.start=runs/omniglot-scha-third \
      --workdir=runs/omniglot-scha
    python train.py --config=configs/best_scha_vae.py:gpu --workdir=runs/gpu   # ten minutes of an H200-class GPU

`cpu_best.py` on the papers' data (`resize=gmn`) and for three times as many images: the plain ELBO, batches of 8 sets,
a high rate with a cosine, averaged parameters, the flips and quarter turns of a character as classes of their own. The
second run (`longer`) shows sets of 5 to 10 images, and the third and the fourth go on with it. `make reproduce` lists
what it gives; the SCHA-VAE paper has a NELBO of 77.9 and an NLL of 71.5 for sets of 5 (Table 1).

The argument `gpu` is an untested variant for a large batch: bfloat16, ten steps per dispatch, patches of 2x2 pixels,
latents at 16x16, and a length that assumes 11,000 images a second (lower `train.steps` on a slower device, so that the
cosine ends in time).
"""

from configs import cpu_best, paper
from hfsgm_jax import default_config


def get_config(variant: str = "cpu"):
    if variant not in ("cpu", "longer", "longest", "gpu"):
        raise ValueError(f"the argument of this config is cpu, longer, longest or gpu, not {variant!r}")
    if variant == "gpu":
        return gpu()
    config = cpu()
    if variant in ("longer", "longest"):
        config.data.update(set_size=(5, 10), sets_per_batch=6)
        config.optimizer.warmup = 200
        config.train.update(steps=17_000 if variant == "longer" else 18_000, eval_every=1_000, save_every=500)
    return config


def cpu():
    config = cpu_best.get_config()
    config.data.update(resize="gmn", dihedral=True)
    config.optimizer.ema = 0.999
    config.train.update(cpu_devices=1, minutes=0.0, steps=14_000, log_every=200, eval_every=2_000, save_every=1_000)
    config.eval.val_sets = 97
    return config


def gpu():
    config = default_config("scha_vae")
    paper.set_split(config, "back_eval")
    paper.ten_minutes(config, steps=20_000, sets_per_batch=64)
    config.data.dihedral = True
    config.model.update(aggregate="lag", patch=2)
    config.model.update(encoder="16-4,8-4,4-4,2-2,1-2", latents="16-3,8-5,4-5,2-2,1-2", decoder="16-4")
    return config
