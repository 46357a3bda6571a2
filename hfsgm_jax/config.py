"""Configs: the table of their keys with defaults, meanings, valid values; reading, writing, comparing and checking.

The keys of the section ``model`` are ``name`` and the keywords of that model's constructor (`models.MODELS`); all
others stand here. Names that form a table (models, objectives, sources, ...) are read from it, additions included.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_collections
from flax import traverse_util
from ml_collections.config_dict import FieldReference

from hfsgm_jax import keys, processes
from hfsgm_jax.data import ARRAYS, BINARIZE, CORRUPT, RESIZES, SCHEMES, SOURCES, SPLITS, image_shape, set_size_range
from hfsgm_jax.distributions import LIKELIHOODS
from hfsgm_jax.errors import ConfigError, check_choice, hint, nearest
from hfsgm_jax.keys import FLAG, SET_SIZE, STEP, Key, Kind, number, one_of, several, text, whole
from hfsgm_jax.models import MODELS, build_model
from hfsgm_jax.objectives import OBJECTIVES

CONFIG_FILE = "config.json"
# May differ when a run is resumed: how long and where it runs, not what it computes.
FREE_SECTIONS = ("train", "eval")
FREE_KEYS = ("data.data_dir", "data.path", "image_shape")
SECTIONS = ("data", "model", "objective", "optimizer", "train", "eval")
CUSTOM = "custom"  # model.name of a run of a model given in Python

_SOURCE = one_of(table=lambda: (*SOURCES, ARRAYS))
_OTHERS = several(one_of(table=lambda: SOURCES), 0)
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
    "data.copies": Key(whole(1), "factor on |X|: how many warped instances an image stands for", 1),
    "data.sets_per_batch": Key(whole(1), "rows of the global batch", 16),
    "data.heldout": Key(whole(), "images per training class kept out of training", 0),
    "data.binarize": Key(one_of(table=lambda: BINARIZE), "dynamic: anew in training, once in evaluation", "dynamic"),
    "data.stream": Key(FLAG, "images read from disk while training (folder, celeba)", False),
    "data.ink": Key(FLAG, "drawings, dark or light: paper becomes 0, ink 1 (folder, one channel)", False),
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
    "objective.free_bits": Key(number(), "free nats of a shared latent's KL per image of D (ns, resample) or X", 0.0),
    "optimizer.name": Key(one_of("adam", "adamw", "adamax"), "rule", "adam"),
    "optimizer.learning_rate": Key(number(above=True), "highest rate", 2e-4),
    "optimizer.schedule": Key(one_of("constant", "cosine", "plateau"), "cosine: over train.steps", "constant"),
    "optimizer.warmup": Key(whole(), "steps of linear warm-up", 0),
    "optimizer.decay_factor": Key(number(), "plateau: factor of a decay; cosine: final fraction", 0.5),
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
    "train.start": Key(text().or_none("random parameters"), "model to start from: a run's folder, or a shipped name"),
    "train.keep": Key(whole(1), "latest checkpoints kept, beside the best", 2),
    "train.devices": Key(whole(), "devices used (0: all)", 0),
    "train.cpu_devices": Key(whole(0, 4096), "devices of the CPU (0: one per core), as far as they divide the rows", 0),
    "eval.split": Key(one_of(table=lambda: SPLITS), "classes (heldout: held-out images of training classes)", "test"),
    "eval.source": Key(_SOURCE.or_none("data.source"), "other images"),
    "eval.set_size": Key(whole(), "images per set (0: the training size, its upper end)", 0),
    "eval.max_sets": Key(whole(), "most sets that are evaluated (0: all); of several sizes, at the largest", 0),
    "eval.val_sets": Key(whole(1), "sets of the validation during training", 320),
    "eval.sets_per_batch": Key(whole(1), "sets (of the training size) evaluated at once", 16),
    "eval.estimator": Key(one_of("joint", "nested"), "of the NLL (nested: not where p(c) sees images)", "joint"),
    "eval.importance_samples": Key(whole(1), "K, or K over c (nested)", 1000),
    "eval.importance_samples_z": Key(whole(1), "K over z, nested", 10),
    "eval.set_sizes": Key(_SIZES, "images per set, always the same (cardinality, transfer)", (1, 2, 5, 10, 20)),
    "eval.transfer": Key(_OTHERS, "other sources (transfer, classify)", ("mnist", "double_mnist", "triple_mnist")),
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
        loose = key.default is None or key.kind.type is object
        value = FieldReference(key.default, field_type=key.kind.type) if loose else key.default
        config.update_from_flattened_dict({name: value})
    return config


def flatten(config: ml_collections.ConfigDict | dict[str, Any]) -> dict[str, Any]:
    """Nested config -> ``{"section.key": value}``; tuples become lists, as in JSON."""
    config = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else config
    flat = traverse_util.flatten_dict(config, sep=".")
    return {key: list(value) if isinstance(value, tuple) else value for key, value in flat.items()}


# --- files ------------------------------------------------------------------------------------


def dump_config(config: ml_collections.ConfigDict, workdir: str | os.PathLike) -> Path:
    """Writes ``config.json`` into ``workdir``, all of it or nothing."""
    with processes.replacing(Path(workdir) / CONFIG_FILE) as path:
        path.write_text(json.dumps(config.to_dict(), indent=2) + "\n")
    return Path(workdir) / CONFIG_FILE


def load_config(workdir: str | os.PathLike) -> ml_collections.ConfigDict:
    """The ``config.json`` of a run; lists become tuples.

    Raises:
      ConfigError: there is none, or not one that train.py wrote.
    """
    path = Path(workdir) / CONFIG_FILE
    tuples = lambda section: {key: tuple(x) if isinstance(x, list) else x for key, x in section.items()}
    try:
        config = ml_collections.ConfigDict(json.loads(path.read_text(), object_hook=tuples))
        _ = config.model.name, config.image_shape
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{path} does not exist: {workdir} is not the folder of a run of train.py") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is not the config of a run ({error!r}); it is not meant to be edited") from None
    return config


def check_same_run(workdir: str | os.PathLike, config: ml_collections.ConfigDict) -> None:
    """Refuses to continue the run of ``workdir`` with a config that computes something else.

    Raises:
      ConfigError: lists every key that differs and may not, with both values.
    """
    if not (Path(workdir) / CONFIG_FILE).exists():
        return
    old, new = flatten(load_config(workdir)), flatten(config)
    bound = lambda key: key.split(".")[0] not in FREE_SECTIONS and key not in FREE_KEYS
    differ = [key for key in sorted(old.keys() | new.keys()) if bound(key) and old.get(key) != new.get(key)]
    if differ:
        lines = [f"  {key}: {old.get(key)!r} there, {new.get(key)!r} now" for key in differ]
        problem = f"{workdir} holds a run of another config, of which only train.*, eval.* and data paths may change:"
        raise ConfigError("\n".join([problem, *lines]))


# --- checks -----------------------------------------------------------------------------------


def set_overrides(config: ml_collections.ConfigDict, overrides: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """Sets ``"section.key"`` values of a config, which is returned; text is read as on a command line.

    With another ``model.name`` come the keys of that model.

    Raises:
      ConfigError: an unknown key, with the nearest right one, or a value it does not take.
    """
    overrides = dict(overrides)
    name = overrides.pop("model.name", config.model.name)
    if name != config.model.name:
        config.model = default_config(name).model
    known = {**KEYS, **model_keys(name)}
    values = {key: known[key].kind.read(value) if key in known else value for key, value in overrides.items()}
    _refuse(_key_problems(values, known, name))
    with config.unlocked(), config.ignore_type():
        config.update_from_flattened_dict(values)
    return config


def check_config(config: ml_collections.ConfigDict) -> None:
    """Checks all that a config alone tells, its model included.

    Raises:
      ConfigError: every problem, a line each.
    """
    flat = flatten(config)
    name = flat.get("model.name")
    known = {**KEYS, **model_keys(name)}
    is_checked = lambda key: key not in ("image_shape", "model.name") and (name != CUSTOM or key[:6] != "model.")
    problems = list(_key_problems({key: value for key, value in flat.items() if is_checked(key)}, known, name))
    problems += [f"config.{key} is missing: start from hfsgm_jax.default_config()" for key in known if key not in flat]
    _refuse(problems or _conditions(config))
    if name != CUSTOM and config.data.source != ARRAYS:
        build_model(config.model, image_shape(config.data))


def _refuse(problems: Iterable[str]) -> None:
    """Raises a ConfigError of all the problems, if there are any."""
    if text := "\n".join(problems):
        raise ConfigError(text)


def _key_problems(values: Mapping[str, Any], known: Mapping[str, Key], model: str) -> Iterator[str]:
    """A sentence per unknown key or wrong value."""
    for name, value in values.items():
        if name not in known:
            of = f" of model.name={model!r}" if name.startswith("model.") else ""
            yield f"unknown config key {name!r}{of}{hint(nearest_key(name, known))}"
        elif problem := known[name].problem(name, value):
            yield problem


def nearest_key(key: str, valid: Mapping[str, Any]) -> str | None:
    """The valid key closest in spelling, by its whole name or by its last part alone."""
    last = {name.rpartition(".")[2]: name for name in valid}
    return nearest(key, valid) or last.get(nearest(key.rpartition(".")[2], last))


def num_targets(config: ml_collections.ConfigDict) -> int:
    """Target images per set that are drawn apart from the context: as many as it may have, unless set; 0: none."""
    if not OBJECTIVES[config.objective.name].apart:
        return 0
    return config.objective.targets or set_size_range(config.data.set_size)[1]


def _conditions(config: ml_collections.ConfigDict) -> Iterator[str]:
    """Sentences about keys that do not go together."""
    data, train, opt, model, objective = (config[part] for part in ("data", "train", "optimizer", "model", "objective"))
    for key in ("steps", "log_every", "eval_every", "save_every", "sample_every"):
        if train[key] % train.steps_per_dispatch:
            yield f"train.{key}={train[key]} is no multiple of train.steps_per_dispatch={train.steps_per_dispatch}"
    if data.stream and train.steps_per_dispatch != 1:
        yield f"data.stream=True reads a batch per call: train.steps_per_dispatch is 1, not {train.steps_per_dispatch}"
    if opt.schedule == "plateau" and not (train.eval_every and 0 < opt.decay_factor < 1):
        yield "optimizer.schedule='plateau' follows validations: it needs train.eval_every, and decay_factor in (0, 1)"
    kind = OBJECTIVES[objective.name]
    if objective.targets is not None and not kind.apart:
        yield f"objective.targets={objective.targets}: objective.name={objective.name!r} scores the context itself"
    if kind.apart and model.get("prior_sees_images"):
        yield f"objective.name={objective.name!r} is a bound only with model.prior_sees_images=False"
    if kind.init and (data.dihedral or data.copies != 1):
        yield f"objective.name={objective.name!r} knows every training image: use data.dihedral=False and data.copies=1"
    if kind.init and model.name == "vae":
        yield f"objective.name={objective.name!r} is about latents that a set shares, and model.name='vae' has none"
    likelihood = LIKELIHOODS.get(model.get("likelihood"))
    if likelihood and likelihood.levels == 256 and data.binarize != "none":
        yield f"model.likelihood={model.likelihood!r} is of 256 grey levels: it needs data.binarize='none'"
    for key, channels in (("group_size", "a_channels"), ("style_size", "style_channels")):
        if model.get(channels) and not data[key]:
            yield f"model.{channels}={model[channels]} needs images of the group or style: data.{key} is 0"
        elif model.name != CUSTOM and data[key] and not model.get(channels):
            yield f"data.{key}={data[key]}: model.name={model.name!r} has no latents that these images inform; use 0"
    if data.ink and data.channels != 1:
        yield f"data.ink=True makes drawings of one channel: use data.channels=1, not {data.channels}"
    if (data.styles or data.style_size) and not (data.styles > 1 and data.style_size and data.channels == 3):
        both = f"data.styles={data.styles}, data.style_size={data.style_size}"
        yield f"{both}: use both (at least 2 and 1) with data.channels=3, or neither (0)"
    if data.styles and (num_targets(config) != 1 or likelihood and likelihood.levels != 256):
        need = "model.likelihood='discretized_logistics', objective.name='vhe', objective.targets=1"
        yield f"data.styles={data.styles} makes images of 256 levels, one target per set: use {need}"
