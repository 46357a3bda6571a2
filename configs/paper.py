"""Common settings of the SCHA-VAE paper's experiments; the files beside this one name a model each.

Omniglot has two schemes of classes, chosen by the argument of a config (`--config=configs/omniglot_ns.py:ns`):

* `back_eval` (default): 867 background characters to train, 97 to validate, the 659 evaluation characters to test;
  images resized as the paper's (`gmn`: thin, binary strokes).
* `ns`: 1000, 200 and 423 of all 1,623 characters, resized by `box`. The paper used Burda's 28x28 file and an
  unrecorded order of classes, so its `ns` numbers are a guide, not a target.

Optimisation follows the reference code: Adam with L2 1e-5 in the gradient, every element of the gradient clamped to
[-1, 1], the rate halved after 10 epochs without a better validation bound, and the loss
(1 + a) reconstruction + KL / (1 + a) with a = 2 at first, times `alpha_decay` an epoch. An epoch of the reference
shows every training set once as it is and once flipped and rotated by any angle, so it is twice as many steps as
images over images per batch; here half of the sets drawn are flipped and rotated.
The published numbers are of checkpoints at 600 epochs. Epochs are rounded to tens of steps, so that on accelerators
`train.steps_per_dispatch` may be 2, 5 or 10.
"""

import ml_collections

from hfsgm_jax import default_config

TRAIN_CLASSES = {"back_eval": 867, "ns": 1000, "alphabet": 803, "vhe_1200": 1200}
DRAWINGS = 20  # images per class
EPOCHS = 600
FACES = 954 * 48  # training images of the VHE paper's faces


def set_split(config: ml_collections.ConfigDict, split: str, *others: str) -> None:
    """Omniglot by a scheme of classes; ``others`` are what else the argument of the config may be, for the message."""
    if split not in TRAIN_CLASSES:
        valid = sorted({*TRAIN_CLASSES, *others})
        raise ValueError(f"the argument of an Omniglot config is one of {valid}, not {split!r}")
    config.data.update(source="omniglot", split=split, resize="box" if split == "ns" else "gmn")


def omniglot(model: str, split: str, set_size: int, sets_per_batch: int) -> ml_collections.ConfigDict:
    """Data, objective, optimizer and schedule of the paper; the model's defaults."""
    config = default_config(model)
    set_split(config, split)
    config.data.update(flip=True, rotate=180.0, augmented=0.5)
    config.data.set_size = set_size
    config.data.sets_per_batch = sets_per_batch

    epoch = 10 * round(2 * TRAIN_CLASSES[split] * DRAWINGS / (set_size * sets_per_batch) / 10)
    optimise(config, epoch, learning_rate=1e-3)
    return config


def optimise(config: ml_collections.ConfigDict, epoch: int, learning_rate: float) -> None:
    """Objective, optimizer and schedule of the paper; ``epoch`` is in steps."""
    config.objective.alpha = 2.0
    config.objective.alpha_decay = 0.98

    config.optimizer.learning_rate = learning_rate
    config.optimizer.schedule = "plateau"
    config.optimizer.weight_decay = 1e-5
    config.optimizer.clip = "value"
    config.optimizer.clip_at = 1.0

    config.train.steps = EPOCHS * epoch
    config.train.steps_per_epoch = epoch
    config.train.eval_every = epoch  # the plateau counts epochs
    config.train.save_every = 5 * epoch
    config.train.sample_every = 20 * epoch


def baseline(split: str, name: str, *, set_size: int = 5, **model) -> ml_collections.ConfigDict:
    """A model of the Neural Statistician family: batches of 100 sets."""
    config = omniglot(name, split, set_size, sets_per_batch=100)
    config.model.update(model)
    return config


def scha_vae(split: str, **model) -> ml_collections.ConfigDict:
    """SCHA-VAE: batches of 16 sets, a smaller rate, a faster annealing of the reconstruction's weight."""
    config = omniglot("scha_vae", split, set_size=5, sets_per_batch=16)
    config.model.update(model)
    config.objective.alpha_decay = 0.9
    config.optimizer.learning_rate = 2e-4
    return config


def photographs(model: str, source: str, image_size: int, sets_per_batch: int, epoch: int) -> ml_collections.ConfigDict:
    """Colour images in sets of 5 with a mixture of 10 discretised logistics; ``epoch`` is in steps."""
    config = default_config(model)
    config.data.update(source=source, split="official", resize="box", image_size=image_size, channels=3)
    config.data.update(binarize="none", set_size=5, sets_per_batch=sets_per_batch)
    config.model.likelihood = "discretized_logistics"
    optimise(config, epoch, learning_rate=2e-4)
    config.eval.max_sets = 640  # all would take gigabytes and hours
    return config


def homoencoder(model: str, argument: str, sets_per_batch: int) -> ml_collections.ConfigDict:
    """Data, objective and optimizer of the VHE papers (supplement 6.4); the model's defaults.

    Args:
      argument: ``OBJECTIVE`` (ns, resample, rescale, vhe), as in Table 3, or ``OBJECTIVE,augmented``, as in Table 1:
        the 8 flips and quarter turns of a character are 8 characters, and 20 small affine warps of an image are
        instances, so that |X| is 400. The first trains on 25 of the 30 background alphabets (`alphabet`), the other on
        1,200 characters of all alphabets (`vhe_1200`).
    """
    objective, _, augmented = argument.partition(",")
    if augmented not in ("", "augmented"):
        raise ValueError(f"the argument of a VHE config is OBJECTIVE or OBJECTIVE,augmented, not {argument!r}")
    config, split = default_config(model), "vhe_1200" if augmented else "alphabet"
    set_split(config, split)
    config.data.update(set_size=5, sets_per_batch=sets_per_batch)
    config.objective.name = objective
    if augmented:
        config.data.update(dihedral=True, affine=0.1, augmented=1.0, copies=20)
    epoch = 10 * round(TRAIN_CLASSES[split] * DRAWINGS / (5 * sets_per_batch) / 10)
    config.optimizer.learning_rate = 1e-3
    config.train.update(steps=100 * epoch, steps_per_epoch=epoch, eval_every=epoch, save_every=epoch)
    config.train.sample_every = 10 * epoch
    whole_classes(config)
    return config


def whole_classes(config: ml_collections.ConfigDict) -> None:
    """The estimator of the VHE papers' joint NLL: 500 samples of c (Table 3), 10 of every image's t given each.

    Classification by 20 samples of c and 10 of t is the default of every model.
    """
    config.eval.update(estimator="nested", importance_samples=500, importance_samples_z=10)


def ten_minutes(config: ml_collections.ConfigDict, steps: int, sets_per_batch: int) -> None:
    """Batch, optimizer and schedule for ten minutes on one accelerator (ours, not the papers')."""
    config.data.sets_per_batch = sets_per_batch
    config.model.dtype = "bfloat16"
    config.optimizer.update(learning_rate=4e-3, schedule="cosine", decay_factor=0.02, warmup=500, ema=0.999)
    config.train.update(steps=steps, minutes=10.0, steps_per_dispatch=10)
    config.train.update(log_every=100, eval_every=2_000, save_every=2_000, sample_every=0)


def faces(model: str, objective: str, sets_per_batch: int) -> ml_collections.ConfigDict:
    """Data and schedule of the VHE paper's faces (section 4.2): a folder of images per video, 40x40 pixels in colour.

    The paper has 954 videos to train and 641 to test, of 48 images each; so has `vhe_faces` of a folder of 1,595. It
    gives neither likelihood nor rate nor batch.
    """
    config = default_config(model)
    config.data.update(source="folder", split="vhe_faces", image_size=40, channels=3, binarize="none")
    config.data.update(set_size=5, sets_per_batch=sets_per_batch)
    config.objective.name = objective
    config.model.likelihood = "discretized_logistics"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.clip_at = 10_000.0  # gradients of thousands of nats per image
    epoch = 10 * round(FACES / (5 * sets_per_batch) / 10)
    config.train.update(steps=100 * epoch, steps_per_epoch=epoch, eval_every=epoch, save_every=epoch)
    config.train.sample_every = 10 * epoch
    config.eval.update(ways=200, transfer=(), max_sets=640)
    whole_classes(config)
    return config
