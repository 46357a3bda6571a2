"""Opening the folder that train.py leaves behind: its config, its model, a checkpoint."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_collections
from absl import logging

from hfsgm_jax.config import ConfigError, check_keys, flatten, load_config


class Run(NamedTuple):
    """A trained model: config (overrides applied), Flax module, its (EMA) variables, training step."""

    config: ml_collections.ConfigDict
    model: Any
    variables: dict[str, Any]
    step: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return tuple(self.config.image_shape)


def run_config(
    workdir: str | os.PathLike,
    overrides: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> ml_collections.ConfigDict:
    """The config of a run with ``"section.key"`` values changed.

    Args:
      workdir: the run's folder.
      overrides: over what the run was trained with.
      defaults: of keys that its config lacks (a run of an older version).

    Raises:
      ConfigError: no such run, or an unknown key, with the nearest valid one.
    """
    config = load_config(workdir)
    known = flatten(config)
    missing = {key: value for key, value in (defaults or {}).items() if key not in known}
    check_keys(overrides or {}, known.keys() | missing.keys())
    with config.unlocked(), config.ignore_type():
        for key, value in {**missing, **(overrides or {})}.items():
            section, name = key.split(".")
            config[section][name] = value
    return config


def open_run(
    workdir: str | os.PathLike,
    step: str | int | None = None,
    overrides: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Run:
    """Builds the model of a run and reads a checkpoint; see `run_config`.

    Needs only ``config.json`` and ``checkpoints/``: no data, no code of the run's folder.

    Args:
      step: ``best``, ``last`` or a number; default: ``eval.step`` of the config.

    Raises:
      ConfigError, CheckpointError: what is missing, and where.
    """
    from hfsgm_jax.mesh import use_compilation_cache
    from hfsgm_jax.models import build_model
    from hfsgm_jax.training.checkpoint import load_variables

    config = run_config(workdir, overrides, defaults)
    if "image_shape" not in config:
        raise ConfigError(f"the config.json of {workdir} has no image_shape: it was not written by train.py")
    use_compilation_cache()
    model = build_model(config.model, tuple(config.image_shape))
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # Orbax warns that it only reads
    try:
        variables, number = load_variables(workdir, config.eval.step if step is None else step)
    finally:
        logging.set_verbosity(verbosity)
    return Run(config, model, variables, number)
