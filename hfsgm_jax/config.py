"""Reading, writing, comparing and checking configurations. Needs no JAX."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ml_collections

from hfsgm_jax.config_problems import APART, nearest, problems

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
    "model.encoder_width": 64,
    "model.known": (),
    "model.pixelcnn_form": "stacks",
    "model.pixelcnn_layers": 0,
    "model.pixelcnn_width": 64,
    "model.prior_width": 64,
    "model.remat": False,
    "model.style_channels": 6,
    "objective.embedding": 32,
    "objective.tightened": False,
    "train.cpu_devices": 0,
}


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
    last = {name.rsplit(".", 1)[-1]: name for name in valid}
    return nearest(key, valid) or last.get(nearest(key.rsplit(".", 1)[-1], last))


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
    found = list(problems(config))
    if found:
        raise ConfigError("\n".join(found))
