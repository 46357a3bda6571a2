"""What is wrong with a configuration: what its keys alone tell, before any data are read. Needs no JAX."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

OBJECTIVES = ("ns", "resample", "rescale", "vhe")
APART = ("resample", "vhe")  # their target images are drawn apart from the context
WHOLE_CLASS = ("rescale", "vhe")  # KL_c is shared by |X| images instead of |D|


def problems(config: Any) -> Iterator[str]:
    """Every problem of a whole config as a sentence that names the key, its value, and what would do."""
    yield from _train_problems(config)
    yield from _optimizer_problems(config)
    yield from _objective_problems(config)
    yield from _plate_problems(config)
    if config.model.likelihood.startswith("discretized") and config.data.binarize != "none":
        yield (
            f"model.likelihood={config.model.likelihood!r} is of 256 grey levels, and data.binarize="
            f"{config.data.binarize!r} makes images binary: use data.binarize='none', or model.likelihood='bernoulli'"
        )


def nearest(word: str, valid: Iterable[str]) -> str | None:
    """The valid word closest in spelling, if one is near."""
    match = difflib.get_close_matches(word, list(valid), n=1, cutoff=0.6)
    return match[0] if match else None


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
    section, _, name = key.partition(".")
    value = config[section][name]
    if value not in choices:
        near = nearest(str(value), choices)
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
    for key in ("devices", "cpu_devices"):
        if train[key] < 0:
            yield f"train.{key} is {train[key]}; it is a number of devices (0: chosen for you)"
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
    yield from _choice(config, "objective.name", OBJECTIVES)
    if objective.targets is not None and objective.name in OBJECTIVES and objective.name not in APART:
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
