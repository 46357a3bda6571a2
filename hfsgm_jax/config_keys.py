"""The keys of a config, each once: default, meaning with its unit, valid values.

The keys of the section ``model`` are ``name`` and the keywords of that model's constructor (`models.MODELS`); all
others stand here. Names that form a table (models, objectives, sources, ...) are read from it, additions included.
"""

import ml_collections
from ml_collections.config_dict import FieldReference

from hfsgm_jax import keys
from hfsgm_jax.data import ARRAYS, BINARIZE, CORRUPT, RESIZES, SCHEMES, SOURCES, SPLITS
from hfsgm_jax.errors import check_choice
from hfsgm_jax.keys import FLAG, SET_SIZE, STEP, Key, Kind, number, one_of, several, text, whole
from hfsgm_jax.models import MODELS
from hfsgm_jax.objectives import OBJECTIVES

SECTIONS = ("data", "model", "objective", "optimizer", "train", "eval")
CUSTOM = "custom"  # model.name of a run of a model given in Python

_SOURCE = one_of(table=lambda: (*SOURCES, ARRAYS))
_SIZES = several(whole(1))
GREY_OR_RGB = Kind("1 (grey) or 3 (RGB)", lambda x: x in (1, 3) and not isinstance(x, bool), int)

KEYS: dict[str, Key] = {
    "seed": Key(whole(), "of parameters, batches and noise in training", 0),
    "data.source": Key(_SOURCE, "where images come from", "strokes"),
    "data.split": Key(one_of(table=lambda: SCHEMES), "scheme by which classes are split", "back_eval"),
    "data.resize": Key(one_of(table=lambda: RESIZES), "how an image becomes image_size", "box"),
    "data.image_size": Key(whole(1, 4096), "pixels, height and width", 28),
    "data.channels": Key(GREY_OR_RGB, "of an image", 1),
    "data.data_dir": Key(text().or_none("TFDS_DATA_DIR, or the default of tfds"), "folder of tfds"),
    "data.path": Key(text().or_none("not needed"), "the file (npz), or the folder with a folder per class (folder)"),
    "data.set_size": Key(SET_SIZE, "images per set, |D|; of (low, high) drawn per set", 5),
    "data.group_size": Key(whole(), "images of the class's group beside each set, |D^a| (hierarchical_vhe)", 0),
    "data.styles": Key(whole(), "coloured pens in which grey images are drawn (factorial_vhe)", 0),
    "data.style_size": Key(whole(), "images of the target's style beside each set, |D^s| (factorial_vhe)", 0),
    "data.copies": Key(whole(1), "instances that each image counts for in |X|, where warps make new ones", 1),
    "data.by_size": Key(FLAG, "classes drawn in proportion to their images, not all alike", False),
    "data.sets_per_batch": Key(whole(1), "rows of the global batch", 16),
    "data.heldout": Key(whole(), "images per training class kept out of training", 0),
    "data.binarize": Key(one_of(table=lambda: BINARIZE), "dynamic: anew in training, once in evaluation", "dynamic"),
    "data.stream": Key(FLAG, "images read from disk while training (folder, celeba)", False),
    "data.corrupt": Key(one_of(*CORRUPT), "unreadable images of a folder", "refuse"),
    "data.flip": Key(FLAG, "random horizontal and vertical flips, per set", False),
    "data.rotate": Key(number(0, 180), "degrees: largest random rotation, per set", 0.0),
    "data.affine": Key(number(0, 1), "strength of a small random affine warp, per image (0.1: 10 %)", 0.0),
    "data.augmented": Key(number(0, 1), "share of the sets that flip, rotate and affine change", 0.5),
    "data.dihedral": Key(FLAG, "the 8 flips and quarter turns of a class count as 8 classes", False),
    "data.seed": Key(whole(), "of random splits and of procedural data", 0),
    "objective.name": Key(one_of(table=lambda: OBJECTIVES), "bound that is maximised", "ns"),
    "objective.targets": Key(whole(1).or_none("as many as the context"), "target images drawn apart from the context"),
    "objective.alpha": Key(number(), "loss = (1 + a) reconstruction + KL / (1 + a), value of a at first", 0.0),
    "objective.alpha_decay": Key(number(0, 1, above=True), "factor of a per epoch (train.steps_per_epoch)", 1.0),
    "objective.kl_warmup": Key(whole(), "steps over which the weight of the KL grows from 0 to 1", 0),
    "objective.free_bits": Key(
        number(), "free nats per image of a shared latent's KL: times |D| (ns, resample) or |X| per set", 0.0
    ),
    "optimizer.name": Key(one_of("adam", "adamw", "adamax"), "rule", "adam"),
    "optimizer.learning_rate": Key(number(above=True), "highest rate", 2e-4),
    "optimizer.schedule": Key(one_of("constant", "cosine", "step", "plateau"), "of the rate", "constant"),
    "optimizer.warmup": Key(whole(), "steps of linear warm-up", 0),
    "optimizer.decay_steps": Key(whole(), "cosine: length (0: train.steps); step: steps between decays", 0),
    "optimizer.decay_factor": Key(number(), "step, plateau: factor of a decay; cosine: final fraction", 0.5),
    "optimizer.patience": Key(whole(1), "plateau: evaluations without improvement before one that decays", 10),
    "optimizer.weight_decay": Key(number(), "adamw: decoupled; adam, adamax: L2 added to the gradient", 0.0),
    "optimizer.clip": Key(one_of("norm", "value", "none"), "of the gradient", "norm"),
    "optimizer.clip_at": Key(number(above=True), "largest global norm, or absolute value of an element", 100.0),
    "optimizer.accumulate": Key(whole(1), "parts of a batch, one after another (divides its rows)", 1),
    "optimizer.ema": Key(number(0, 1, below=True), "decay of the averaged parameters (0: off)", 0.0),
    "train.steps": Key(whole(1), "optimizer steps", 100_000),
    "train.minutes": Key(number(), "time budget, resumes included (0: none)", 0.0),
    "train.steps_per_dispatch": Key(whole(1), "optimizer steps per call of the compiled program", 1),
    "train.log_every": Key(whole(1), "steps", 100),
    "train.eval_every": Key(whole(), "steps between validations (0: only at the end)", 2_000),
    "train.sample_every": Key(whole(), "steps between sample grids (0: none)", 10_000),
    "train.save_every": Key(whole(), "steps between checkpoints (0: only at the end)", 2_000),
    "train.steps_per_epoch": Key(whole(), "0: training images over images per batch", 0),
    "train.keep": Key(whole(1), "latest checkpoints kept, beside the best", 2),
    "train.devices": Key(whole(), "devices used (0: all)", 0),
    "train.cpu_devices": Key(whole(0, 4096), "devices that a CPU counts as (0: one per core that divides the rows)", 0),
    "eval.split": Key(one_of(table=lambda: SPLITS), "classes (heldout: held-out images of training classes)", "test"),
    "eval.source": Key(_SOURCE.or_none("data.source"), "other images"),
    "eval.set_size": Key(whole(), "images per set (0: the training size, its upper end)", 0),
    "eval.max_sets": Key(whole(), "sets evaluated, of the largest size where there are several (0: all)", 0),
    "eval.val_sets": Key(whole(1), "sets of the validation during training", 320),
    "eval.sets_per_batch": Key(whole(1), "sets (of the training size) evaluated at once", 16),
    "eval.estimator": Key(one_of("joint", "nested"), "of the NLL (nested: not where p(c) sees images)", "joint"),
    "eval.importance_samples": Key(whole(1), "K, or K over c (nested)", 1000),
    "eval.importance_samples_z": Key(whole(1), "K over z, nested", 10),
    "eval.set_sizes": Key(_SIZES, "images per set, always the same (cardinality, transfer)", (1, 2, 5, 10, 20)),
    "eval.transfer": Key(
        several(one_of(table=lambda: SOURCES), 0),
        "sources of other images (transfer, classify, sample)",
        ("mnist", "double_mnist", "triple_mnist"),
    ),
    "eval.episodes": Key(whole(1), "episodes per setting (classify)", 20),
    "eval.ways": Key(whole(2), "classes per episode (classify, sample)", 20),
    "eval.shots": Key(_SIZES, "images per class (classify)", (1, 5)),
    "eval.queries": Key(whole(1), "queries per class and episode (classify)", 1),
    "eval.class_samples_c": Key(whole(1), "samples of c (classify)", 20),
    "eval.class_samples_z": Key(whole(1), "importance samples of z (classify)", 10),
    "eval.temperature": Key(number(), "factor on the noise of the latents (sample)", 1.0),
    "eval.iterations": Key(whole(1), "iterations of refinement (sample)", 20),
    "eval.samples": Key(whole(1), "new images per class that numbers are computed from (sample)", 20),
    "eval.seed": Key(whole(), "of sets, binarisation and noise", 0),
    "eval.step": Key(STEP, "checkpoint", "best"),
}


def model_keys(name: str) -> dict[str, Key]:
    """The keys of the section ``model`` for the model ``name``: the keywords of its constructor.

    Raises:
      ConfigError: there is no such model.
    """
    if name == CUSTOM:
        return {}
    check_choice("model.name", name, MODELS)
    return {f"model.{keyword}": key for keyword, key in keys.keywords(MODELS[name]).items()}


def default_config(model: str = "scha_vae") -> ml_collections.ConfigDict:
    """All keys with their defaults, those of the model's constructor among them.

    Raises:
      ConfigError: there is no such model.
    """
    config = ml_collections.ConfigDict({section: {} for section in SECTIONS})
    config.model.name = model
    for name, key in {**KEYS, **model_keys(model)}.items():
        section, _, last = name.rpartition(".")
        loose = key.default is None or key.kind.type is object
        value = FieldReference(key.default, field_type=key.kind.type) if loose else key.default
        (config[section] if section else config)[last] = value
    return config
