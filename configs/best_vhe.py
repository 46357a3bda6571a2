"""The recipe of `omniglot-vhe`, a model that comes with the library: a PixelCNN VHE in three runs on one CPU core.

    python train.py --config=configs/best_vhe.py --workdir=runs/omniglot-vhe-first
    python train.py --config=configs/best_vhe.py:longer --config.train.start=runs/omniglot-vhe-first \
      --workdir=runs/omniglot-vhe-second
    python train.py --config=configs/best_vhe.py:longest --config.train.start=runs/omniglot-vhe-second \
      --workdir=runs/omniglot-vhe
    python train.py --config=configs/best_vhe.py:vhe_1200 --workdir=runs/vhe-1200
    python train.py --config=configs/best_vhe.py:few_shot --workdir=runs/vhe-1200-few
    python train.py --config=configs/best_vhe.py:one_shot --config.train.start=runs/vhe-1200-few \
      --workdir=runs/vhe-1200-one
    python train.py --config=configs/best_vhe.py:gpu --workdir=runs/gpu   # ten minutes of an H200-class GPU

`cpu_vhe.py` with more features and a wider view of the class: a map c of 4 channels, 8 numbers of an image's own
latent, three gated layers of pixels, and the flips and quarter turns of a character as classes of their own. The second
run (`longer`) adds two layers of pixels and shows contexts of 1 to 10 images, so that one model serves few and many;
the third (`longest`) goes on with it. `make reproduce` lists what it gives; the VHE paper has an NLL of 61.22 for whole
classes (Table 3).

The argument `vhe_1200` is for few-shot classification as in the paper's Tables 1 and 2: trained on 1,200 characters of
all alphabets, with small warps, tested on the 423 others. As in the paper the model of one shot is trained with sets of
1 (`one_shot`); it starts from one of sets of 1 to 5 (`few_shot`).

The argument `gpu` is an untested variant for a large batch: bfloat16, ten steps per dispatch, twice the features, and a
length that assumes 6,400 images a second (lower `train.steps` on a slower device, so that the cosine ends in time).
"""

from configs import cpu_vhe, paper

VARIANTS = "cpu", "longer", "longest", "vhe_1200", "few_shot", "one_shot", "gpu"


def get_config(variant: str = "cpu"):
    if variant not in VARIANTS:
        raise ValueError(f"the argument of this config is one of {VARIANTS}, not {variant!r}")
    config = cpu_vhe.get_config("vhe")
    config.data.dihedral = True
    config.model.update(width=32, c_channels=4, z_channels=8, context_kernel=9)
    config.model.update(pixelcnn_width=32, pixelcnn_layers=3, prior_width=16)
    config.train.update(steps=10_000, log_every=100, eval_every=1_000, save_every=500)
    config.eval.val_sets = 97
    if variant in ("longer", "longest"):
        config.data.set_size = 1, 10
        config.model.pixelcnn_layers = 5
        config.optimizer.update(warmup=200, decay_factor=0.02)
        config.train.update(steps=5_200 if variant == "longer" else 9_000, save_every=250)
    if variant in ("vhe_1200", "few_shot", "one_shot"):
        config.data.update(split="vhe_1200", set_size=(1, 10), affine=0.1, augmented=1.0, copies=20)
        config.train.update(steps=8_500, save_every=250)
    if variant == "few_shot":
        config.data.set_size = 1, 5
        config.train.steps = 16_000
    if variant == "one_shot":
        config.data.set_size = 1
        config.optimizer.warmup = 200
        config.train.steps = 12_000
    if variant == "gpu":
        config.train.cpu_devices = 0
        config.model.update(width=64, pixelcnn_width=64, prior_width=32)
        paper.ten_minutes(config, steps=12_000, sets_per_batch=64)
    return config
