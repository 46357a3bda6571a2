"""Opening the folder that train.py leaves behind, or what was exported of it: a config, its model, its variables."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
from absl import logging

from hfsgm_jax.config import FREE_KEYS, ConfigError, check_keys, dump_config, flatten, load_config
from hfsgm_jax.weights import WeightsError, has_weights, read_weights, write_weights


class Run(NamedTuple):
    """A trained model: config (overrides applied), Flax module, its (EMA) variables, training step.

    ``weights`` is what the variables were rounded to when they were exported; float32 is what they were trained in.
    """

    config: ml_collections.ConfigDict
    model: Any
    variables: dict[str, Any]
    step: int
    weights: str = "float32"

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

    Needs only ``config.json`` and ``checkpoints/``, or the weights that `export` wrote: no data, no code of the folder.

    Args:
      step: ``best``, ``last`` or a number; default: ``eval.step`` of the config. Of exported weights, which are of one
        step, ``best`` and ``last`` are that one.

    Raises:
      ConfigError, CheckpointError, WeightsError: what is missing, and where.
    """
    from hfsgm_jax.mesh import use_compilation_cache
    from hfsgm_jax.models import build_model

    config = run_config(workdir, overrides, defaults)
    if "image_shape" not in config:
        raise ConfigError(f"the config.json of {workdir} has no image_shape: it was not written by train.py")
    use_compilation_cache()
    model = build_model(config.model, tuple(config.image_shape))
    read = _exported if has_weights(workdir) else _checkpoint
    return Run(config, model, *read(workdir, config.eval.step if step is None else step))


def export(
    workdir: str | os.PathLike, out: str | os.PathLike, step: str | int = "best", dtype: str = "bfloat16"
) -> list[Path]:
    """Writes a run's model into a small folder that `open_run` opens as it does the run's, see `weights`.

    The config goes along, without the places of the data on this machine.

    Args:
      workdir: the run's folder.
      out: the folder to write; may hold other files.
      step: ``best``, ``last`` or a number.
      dtype: of the weights, ``bfloat16`` or ``float32``.

    Returns:
      The files written.

    Raises:
      ConfigError, CheckpointError: no such run or checkpoint.
      WeightsError: ``out`` is the folder of a run, or there is no such dtype.
    """
    if (Path(out) / "checkpoints").exists():
        raise WeightsError(f"{out} is the folder of a run; export into another one")
    run = open_run(workdir, step)
    files = write_weights(out, run.variables, run.step, dtype)
    config = run.config.copy_and_resolve_references()
    for key in FREE_KEYS:
        section, _, name = key.rpartition(".")
        if section == "data":
            config.data[name] = None
    return [dump_config(config, out), *files]


def _exported(workdir: str | os.PathLike, step: str | int) -> tuple[dict[str, Any], int, str]:
    import jax
    import jax.numpy as jnp

    variables, number, dtype = read_weights(workdir)
    if str(step) not in ("best", "last", str(number)):
        raise WeightsError(f"{workdir} holds the weights of step {number} only, not of {step!r}")
    return jax.tree.map(jnp.asarray, variables), number, dtype


def _checkpoint(workdir: str | os.PathLike, step: str | int) -> tuple[dict[str, Any], int]:
    from hfsgm_jax.training.checkpoint import load_variables

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # Orbax warns that it only reads
    try:
        return load_variables(workdir, step)
    finally:
        logging.set_verbosity(verbosity)
