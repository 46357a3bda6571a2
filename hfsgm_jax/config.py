"""Reading, writing, comparing and checking configs; `config_keys` has the table of their keys."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_collections
from flax import traverse_util

from hfsgm_jax import processes
from hfsgm_jax.config_keys import ARRAYS, CUSTOM, KEYS, SECTIONS, default_config, model_keys
from hfsgm_jax.distributions import LIKELIHOODS
from hfsgm_jax.errors import ConfigError, nearest
from hfsgm_jax.keys import Key
from hfsgm_jax.models import build_model
from hfsgm_jax.objectives import OBJECTIVES

__all__ = ["ARRAYS", "CUSTOM", "KEYS", "SECTIONS", "default_config", "model_keys"]
CONFIG_FILE = "config.json"
# May differ when a run is resumed: how long and where it runs, not what it computes.
FREE_SECTIONS = ("train", "eval")
FREE_KEYS = ("data.data_dir", "data.path", "image_shape")


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
        config = json.loads(path.read_text(), object_hook=tuples)
        config["model"]["name"]  # every config has it
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{path} does not exist: {workdir} is not the folder of a run of train.py") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path} is not the config of a run ({error!r}); it is not meant to be edited") from None
    return ml_collections.ConfigDict(config)


def check_same_run(workdir: str | os.PathLike, config: ml_collections.ConfigDict) -> None:
    """Refuses to continue the run of ``workdir`` with a config that computes something else.

    Raises:
      ConfigError: lists every key that differs and may not, with both values.
    """
    if not (Path(workdir) / CONFIG_FILE).exists():
        return
    old, new = flatten(load_config(workdir)), flatten(config)
    changed = [
        f"  {key}: {old.get(key)!r} there, {new.get(key)!r} now"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and key.split(".")[0] not in FREE_SECTIONS and key not in FREE_KEYS
    ]
    if changed:
        raise ConfigError(
            f"{workdir} holds a run of another config; use another --workdir, or the same values. "
            "Only train.*, eval.* and data paths may change. What differs:\n" + "\n".join(changed)
        )


# --- checks -----------------------------------------------------------------------------------


def set_overrides(config: ml_collections.ConfigDict, overrides: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """Sets ``"section.key"`` values of a config, which is returned.

    Raises:
      ConfigError: an unknown key, with the nearest right one, or a value it does not take.
    """
    known = {**KEYS, **model_keys(config.model.name)}
    _refuse(_key_problems(overrides, known))
    with config.unlocked(), config.ignore_type():
        for name, value in overrides.items():
            section, _, last = name.rpartition(".")
            (config[section] if section else config)[last] = value
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
        build_model(config.model, (config.data.image_size, config.data.image_size, config.data.channels))


def _refuse(problems: Iterable[str]) -> None:
    """Raises a ConfigError of all the problems, if there are any."""
    if text := "\n".join(problems):
        raise ConfigError(text)


def _key_problems(values: Mapping[str, Any], known: Mapping[str, Key], model: str = "") -> Iterator[str]:
    """A sentence per unknown key or wrong value."""
    for name, value in values.items():
        if name not in known:
            near = nearest_key(name, known)
            of = f" of model.name={model!r}" if model and name.startswith("model.") else ""
            yield f"unknown config key {name!r}{of}" + (f"; did you mean {near!r}?" if near else "")
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
    size = config.data.set_size
    return config.objective.targets or (max(size) if isinstance(size, tuple | list) else size)


def _conditions(config: ml_collections.ConfigDict) -> Iterator[str]:
    """Sentences about keys that do not go together."""
    data, train, opt, model = config.data, config.train, config.optimizer, config.model
    for key in ("steps", "log_every", "eval_every", "save_every", "sample_every"):
        if train[key] % train.steps_per_dispatch:
            yield f"train.{key}={train[key]} is no multiple of train.steps_per_dispatch={train.steps_per_dispatch}"
    if data.stream and train.steps_per_dispatch != 1:
        yield f"data.stream=True reads a batch per call: train.steps_per_dispatch is 1, not {train.steps_per_dispatch}"
    if opt.schedule == "step" and not opt.decay_steps:
        yield "optimizer.schedule='step' needs optimizer.decay_steps, the steps between decays"
    if opt.schedule == "plateau" and not (train.eval_every and 0 < opt.decay_factor < 1):
        yield "optimizer.schedule='plateau' follows validations: it needs train.eval_every, and decay_factor in (0, 1)"
    yield from _objective_conditions(config)
    likelihood = LIKELIHOODS.get(model.get("likelihood"))
    if likelihood and likelihood.levels == 256 and data.binarize != "none":
        yield (
            f"model.likelihood={model.likelihood!r} is of 256 grey levels, and data.binarize={data.binarize!r} makes "
            "images binary: use data.binarize='none', or model.likelihood='bernoulli'"
        )
    for key, channels, what in (
        ("group_size", "a_channels", "images of the class's group"),
        ("style_size", "style_channels", "images of the target's style (and data.styles, how many there are)"),
    ):
        if model.get(channels) and not data[key]:
            yield f"model.{channels}={model[channels]} needs data.{key}, {what}; it is 0"
        elif model.name != CUSTOM and data[key] and not model.get(channels):
            yield f"data.{key}={data[key]}: model.name={model.name!r} has no latents that these images inform; use 0"
    if data.styles and likelihood and likelihood.levels != 256:
        yield (
            f"data.styles={data.styles} makes images of 256 levels, and model.likelihood is {model.likelihood!r}: use "
            "discretized_logistics or discretized_normal"
        )


def _objective_conditions(config: ml_collections.ConfigDict) -> Iterator[str]:
    data, objective, model = config.data, config.objective, config.model
    kind = OBJECTIVES[objective.name]
    apart = [name for name, other in OBJECTIVES.items() if other.apart]
    if objective.targets is not None and not kind.apart:
        yield (
            f"objective.targets={objective.targets} is of objectives that score other images than the context "
            f"({', '.join(apart)}); objective.name={objective.name!r} scores the context itself"
        )
    if kind.apart and model.get("prior_sees_images"):
        yield (
            f"objective.name={objective.name!r} is a bound on log p(x) only if the prior of c does not see the images: "
            "set model.prior_sees_images=False, or objective.name='ns'"
        )
    if kind.init and (data.dihedral or data.copies != 1):
        yield f"objective.name={objective.name!r} knows every training image: use data.dihedral=False and data.copies=1"
    if kind.init and model.name == "vae":
        yield f"objective.name={objective.name!r} is about latents that a set shares, and model.name='vae' has none"
    if data.copies > 1 and not data.affine:
        yield f"data.copies={data.copies}: above 1 only where random warps (data.affine) make new instances of an image"
