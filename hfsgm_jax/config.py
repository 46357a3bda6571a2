"""Reading, writing, comparing and checking configurations. Needs no JAX."""

import difflib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ml_collections

CONFIG_FILE = "config.json"
# What may differ when a run is resumed: how long and where it runs, not what it computes.
FREE_SECTIONS = ("train", "eval")
FREE_KEYS = ("data.data_dir", "data.path", "data.cache_dir", "image_shape")


# Keys that the config.json of an older run may lack -> the value that means what such a run did.
ADDED = {
    "data.copies": 1,
    "data.family": "gaussian",
    "data.group_size": 0,
    "data.stream": False,
    "data.style_size": 0,
    "data.styles": 0,
    "model.a_channels": 64,
    "model.context_kernel": 0,
    "model.context_prior": "stacks",
    "model.known": (),
    "model.pixelcnn_form": "stacks",
    "model.pixelcnn_layers": 0,
    "model.pixelcnn_width": 64,
    "model.prior_width": 64,
    "model.style_channels": 6,
    "objective.embedding": 32,
    "objective.tightened": False,
}
# Objectives whose target images are drawn apart from the context.
APART = ("resample", "vhe")


class ConfigError(ValueError):
    """A configuration that the user has to change; the message says how."""


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Nested config -> ``{"section.key": value}``; tuples become lists, as in JSON."""
    if isinstance(config, ml_collections.ConfigDict):
        config = config.to_dict()
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat


def dump_config(config: ml_collections.ConfigDict, workdir: str | os.PathLike) -> Path:
    """Writes ``config.json`` into ``workdir``, all of it or nothing."""
    path = Path(workdir) / CONFIG_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(config.to_dict(), indent=2) + "\n")
    os.replace(temporary, path)
    return path


def load_config(workdir: str | os.PathLike) -> ml_collections.ConfigDict:
    """Reads the ``config.json`` of a run; lists become tuples, and keys newer than the run are filled in.

    Raises:
      ConfigError: there is none, or it is not JSON.
    """
    path = Path(workdir) / CONFIG_FILE
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist: {workdir} is not the folder of a run of train.py") from None
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path} is not JSON ({error}); it is written by train.py and not meant to be edited"
        ) from None

    def tuples(value):
        if isinstance(value, dict):
            return {key: tuples(item) for key, item in value.items()}
        return tuple(value) if isinstance(value, list) else value

    config = ml_collections.ConfigDict(tuples(values))
    for key, value in ADDED.items():
        section, name = key.split(".")
        if section in config and name not in config[section]:
            config[section][name] = value
    return config


def config_diff(old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    """``(key, old value, new value)`` of every key that differs; "(none)" where one lacks it."""
    old, new = flatten(old), flatten(new)
    return [
        (key, old.get(key, "(none)"), new.get(key, "(none)"))
        for key in sorted(old.keys() | new.keys())
        if old.get(key, "(none)") != new.get(key, "(none)")
    ]


def check_same_run(workdir: str | os.PathLike, config: ml_collections.ConfigDict) -> None:
    """Refuses to continue the run of ``workdir`` with a config that computes something else.

    Raises:
      ConfigError: lists every key that differs and may not, with both values.
    """
    if not (Path(workdir) / CONFIG_FILE).exists():
        return
    changed = [
        (key, old, new)
        for key, old, new in config_diff(load_config(workdir), config)
        if key.split(".")[0] not in FREE_SECTIONS and key not in FREE_KEYS
    ]
    if changed:
        lines = "\n".join(f"  {key}: {old!r} there, {new!r} now" for key, old, new in changed)
        raise ConfigError(
            f"{workdir} holds a run of another config; use another --workdir, or the same values. "
            f"Only train.*, eval.* and data paths may change. What differs:\n{lines}"
        )


def nearest_key(key: str, valid: Iterable[str]) -> str | None:
    """The valid key closest in spelling, by its whole name or by its last part alone."""
    valid = list(valid)
    match = difflib.get_close_matches(key, valid, n=1, cutoff=0.6)
    if match:
        return match[0]
    last = {name.rsplit(".", 1)[-1]: name for name in valid}
    match = difflib.get_close_matches(key.rsplit(".", 1)[-1], list(last), n=1, cutoff=0.6)
    return last[match[0]] if match else None


def check_keys(keys: Iterable[str], valid: Iterable[str]) -> None:
    """Raises a ConfigError that names each unknown ``section.key`` and the nearest valid one."""
    valid = set(valid)
    messages = []
    for key in keys:
        if key not in valid:
            near = nearest_key(key, sorted(valid))
            messages.append(f"unknown config key {key!r}" + (f"; did you mean {near!r}?" if near else ""))
    if messages:
        raise ConfigError("\n".join(messages))


def num_targets(config: ml_collections.ConfigDict) -> int:
    """Target images per set that are drawn apart from the context: as many as it may have, unless set; 0: none."""
    if config.objective.name not in APART:
        return 0
    size = config.data.set_size
    return config.objective.targets or (max(size) if isinstance(size, tuple | list) else size)


def check_config(config: ml_collections.ConfigDict) -> None:
    """Checks what concerns training; models and data check their own sections.

    Raises:
      ConfigError: names all the problems found, one per line.
    """
    problems = [*_train_problems(config), *_optimizer_problems(config), *_objective_problems(config)]
    problems += _plate_problems(config)
    if config.model.likelihood.startswith("discretized") and config.data.binarize != "none":
        problems.append(
            f"model.likelihood={config.model.likelihood!r} is of 256 grey levels, and data.binarize="
            f"{config.data.binarize!r} makes images binary: use data.binarize='none', or model.likelihood='bernoulli'"
        )
    if problems:
        raise ConfigError("\n".join(problems))


def _plate_problems(config) -> Iterable[str]:
    """Models with more plates than that of the set need images that inform these; others have no use for them."""
    name = config.model.name
    for key, model, what in (
        ("group_size", "hierarchical_vhe", "images of the class's group"),
        ("style_size", "factorial_vhe", "images of the target's style (and data.styles, how many there are)"),
    ):
        size = config.data[key]
        if name == model and size < 1:
            yield f"model.name={name!r} needs data.{key}, {what}; it is {size}"
        elif name != model and size:
            yield f"data.{key} is {size}, and only model.name={model!r} has latents that these images inform: use 0"
    if config.data.styles and not config.model.likelihood.startswith("discretized"):
        yield (
            f"data.styles={config.data.styles} makes images of 256 levels, and model.likelihood is "
            f"{config.model.likelihood!r}: use discretized_logistics or discretized_normal"
        )


def _choice(config, key: str, choices: tuple[str, ...]) -> Iterable[str]:
    value = flatten(config)[key]
    if value not in choices:
        near = nearest_key(str(value), choices)
        yield f"{key} is one of {', '.join(choices)}, not {value!r}" + (f"; did you mean {near!r}?" if near else "")


def _train_problems(config) -> Iterable[str]:
    train, rows = config.train, config.data.sets_per_batch
    if (
        train.steps < 1
        or train.steps_per_dispatch < 1
        or train.log_every < 1
        or train.keep < 1
        or train.max_skipped < 1
    ):
        yield "train.steps, steps_per_dispatch, log_every, keep and max_skipped are at least 1"
        return
    for key in ("steps", "log_every", "eval_every", "save_every", "sample_every"):
        if train[key] < 0:
            yield f"train.{key} is {train[key]}; it is a number of steps (0: only at the end)"
        elif train[key] % train.steps_per_dispatch:
            yield (
                f"train.{key} ({train[key]}) must be a multiple of "
                f"train.steps_per_dispatch ({train.steps_per_dispatch})"
            )
    if train.minutes < 0:
        yield f"train.minutes is {train.minutes}; it is a time budget in minutes (0: none)"
    if rows < 1 or config.optimizer.accumulate < 1 or rows % config.optimizer.accumulate:
        yield (
            f"data.sets_per_batch ({rows}) must divide into optimizer.accumulate "
            f"({config.optimizer.accumulate}) equal parts"
        )
    if config.eval.val_sets < 1 or config.eval.sets_per_batch < 1:
        yield "eval.val_sets and eval.sets_per_batch are at least 1"


def _optimizer_problems(config) -> Iterable[str]:
    opt = config.optimizer
    yield from _choice(config, "optimizer.name", ("adam", "adamw", "adamax"))
    yield from _choice(config, "optimizer.schedule", ("constant", "cosine", "step", "plateau"))
    yield from _choice(config, "optimizer.clip", ("norm", "value", "none"))
    if not opt.learning_rate > 0:
        yield f"optimizer.learning_rate is {opt.learning_rate}; it is above 0"
    if opt.clip != "none" and not opt.clip_at > 0:
        yield f"optimizer.clip_at is {opt.clip_at}; it is above 0 (optimizer.clip='none' turns clipping off)"
    if not 0 <= opt.ema < 1:
        yield f"optimizer.ema is {opt.ema}; it is a decay in [0, 1), 0 is off"
    if opt.schedule == "step" and opt.decay_steps < 1:
        yield "optimizer.schedule='step' needs optimizer.decay_steps, the steps between decays"
    if opt.schedule == "plateau" and not (0 < opt.decay_factor < 1 and opt.patience >= 1):
        yield "optimizer.schedule='plateau' needs optimizer.decay_factor in (0, 1) and optimizer.patience of at least 1"
    if opt.schedule == "plateau" and config.train.eval_every < 1:
        yield "optimizer.schedule='plateau' follows the evaluations: set train.eval_every"
    if opt.warmup < 0 or opt.decay_steps < 0 or opt.weight_decay < 0:
        yield "optimizer.warmup, decay_steps and weight_decay are not negative"


def _objective_problems(config) -> Iterable[str]:
    objective = config.objective
    yield from _choice(config, "objective.name", ("ns", "resample", "rescale", "vhe"))
    if objective.targets is not None and objective.name not in APART:
        yield (
            f"objective.targets={objective.targets} is of objectives that score other images than the context "
            f"({', '.join(APART)}); objective.name={objective.name!r} scores the context itself"
        )
    if objective.targets is not None and objective.targets < 1:
        yield f"objective.targets is {objective.targets}; it is a number of images, at least 1 (None: as the context)"
    if objective.name in APART and config.model.prior_sees_images:
        yield (
            f"objective.name={objective.name!r} is a bound on log p(x) only if the prior of c does not see the images: "
            "set model.prior_sees_images=False, or objective.name='ns'"
        )
    if objective.tightened and (objective.name != "vhe" or config.data.dihedral or config.data.copies != 1):
        yield (
            "objective.tightened=True goes with objective.name='vhe', data.dihedral=False and data.copies=1: every "
            "training image has an embedding of its own"
        )
    if objective.tightened and config.model.name == "vae":
        yield "objective.tightened=True is about latents that a set shares, and model.name='vae' has none"
    if config.data.copies < 1 or (config.data.copies > 1 and not config.data.affine):
        yield (
            f"data.copies is {config.data.copies}: at least 1, and above 1 only where random warps (data.affine) make "
            "new instances of an image"
        )
    if objective.embedding < 1:
        yield f"objective.embedding is {objective.embedding}; it is at least 1"
    if objective.alpha < 0 or not 0 < objective.alpha_decay <= 1:
        yield "objective.alpha is at least 0 and objective.alpha_decay in (0, 1]"
    if objective.kl_warmup < 0 or objective.free_bits < 0:
        yield "objective.kl_warmup (steps) and objective.free_bits (nats) are not negative"
