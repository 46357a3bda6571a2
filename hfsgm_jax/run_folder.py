"""The folder of a run, read: config, checkpoints, metrics; and a model's weights in a small folder of their own.

A folder of weights holds ``config.json``, ``weights.msgpack`` (`flax.serialization`; the ``variables``, their training
``step`` and ``dtype``) and ``files.json`` with its checksum. No code of a folder is ever executed.
"""

import contextlib
import functools
import hashlib
import json
import logging
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from hfsgm_jax import config as config_lib
from hfsgm_jax import devices, processes
from hfsgm_jax.errors import CheckpointError, ConfigError, check_choice, hint, nearest
from hfsgm_jax.models import build_model
from hfsgm_jax.shipped import PRETRAINED, pretrained

CHECKPOINTS = "checkpoints"
METRICS_FILE = "metrics.jsonl"
SCORE = "val/objective"  # of the metrics: the best checkpoint has the lowest
MANIFEST = "files.json"  # of a checkpoint, or of weights: files with their checksums
WEIGHTS = "weights.msgpack"
DTYPES = ("bfloat16", "float32")
OWN = "objective"  # parameters of an objective, beside the model's
Folder = str | os.PathLike


class Run(NamedTuple):
    """A trained model: config (overrides applied), Flax module, its (EMA) variables, training step.

    ``weights`` is the dtype that the variables were rounded to when they were exported; training has float32.
    """

    config: ConfigDict
    model: Any
    variables: dict[str, Any]
    step: int
    weights: str = "float32"


def open_run(
    folder: Folder, step: str | int | None = None, overrides: Mapping[str, Any] | None = None, model: Any = None
) -> Run:
    """A run's model with the variables of a checkpoint, or of the weights that `export` or `save_weights` wrote.

    Args:
      folder: of a run or of weights; or a name of `pretrained`, which goes before a folder of the same name.
      step: ``best``, ``last`` or a number; default: ``eval.step`` of the config. Of exported weights, which are of one
        step, ``best`` and ``last`` are that one.
      overrides: ``"section.key"`` values over the run's config.
      model: of a run with a model of the user's own.

    Raises:
      ConfigError, CheckpointError: no such run, key or checkpoint, or not readable.
    """
    names = pretrained()
    folder = PRETRAINED / folder if str(folder) in names else Path(folder)
    if not folder.exists():
        known = f"nor is it a model that comes with the library ({', '.join(names)})"
        raise ConfigError(f"{folder} does not exist, {known}{hint(nearest(folder, names))}")
    config = config_lib.set_overrides(config_lib.load_config(folder), overrides or {})
    if model is None and config.model.name == config_lib.CUSTOM:
        raise ConfigError(f"{folder} holds a run of a model of the user's own: hand it over as model=")
    devices.use_compilation_cache()
    model = build_model(config.model, tuple(config.image_shape)) if model is None else model
    read = _exported if any((folder / name).exists() for name in (WEIGHTS, MANIFEST)) else load_variables
    variables, *rest = read(folder, config.eval.step if step is None else step)
    return Run(config, model, variables, *rest)


# --- checkpoints ------------------------------------------------------------------------------


def saved_steps(folder: Path) -> list[int]:
    """The complete checkpoints in ``folder``: until they are, their folders have other names."""
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal()) if folder.is_dir() else []


def facts(checkpoint: Path) -> dict[str, float]:
    """``seconds`` of training until then and, if it was validated, `SCORE`; empty where not readable."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads((checkpoint / "metrics" / "metrics").read_text())
    return {}


def best_checkpoint(folder: Path) -> tuple[int, float] | None:
    """``(step, its SCORE)`` of the best checkpoint in ``folder``, the first of equals."""
    found = ((facts(folder / str(step)).get(SCORE, math.inf), step) for step in saved_steps(folder))
    value, step = min(found, default=(math.inf, 0))
    return (step, value) if math.isfinite(value) else None


def damage(checkpoint: Path, item: str = "") -> str | None:
    """The damage of a checkpoint (or of one item of it), or of weights, in words, or None.

    Orbax checks its indices, but not the arrays' bytes: without this a flipped bit would be a changed parameter.
    """
    try:
        for name, checksum in json.loads((checkpoint / MANIFEST).read_text()).items():
            if name.startswith(item) and checksum_of(checkpoint / name) != checksum:
                return f"{name} does not have the bytes that were written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).relative_to(checkpoint)} is missing"
    except (OSError, ValueError, AttributeError) as error:
        return f"{MANIFEST}: {error}"
    return None


def write_manifest(folder: Path, files: Iterable[Path]) -> None:
    """Lists files of a folder with their checksums, for `damage`."""
    listed = {path.relative_to(folder).as_posix(): checksum_of(path) for path in files}
    with processes.replacing(folder / MANIFEST) as path:
        path.write_text(json.dumps(listed) + "\n")


def checksum_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_news(record: logging.LogRecord) -> bool:
    """Of Orbax's log: neither tracebacks of errors that it also raises, nor that an item is read by itself."""
    is_known = record.exc_info or "Metadata file does not exist" in record.getMessage()
    return not (is_known and "orbax" in Path(record.pathname).parts)


logging.getLogger("absl").addFilter(_is_news)


def load_variables(workdir: Folder, step: str | int = "best") -> tuple[dict[str, Any], int]:
    """``(variables for model.apply, step)`` of a run: averaged parameters once averaging is on.

    Args:
      step: ``best`` (by `SCORE`; the last where no checkpoint was validated), ``last`` or a number.

    Raises:
      CheckpointError: there is no such checkpoint, or it cannot be read.
    """
    folder = Path(workdir).absolute() / CHECKPOINTS
    steps, best = saved_steps(folder), best_checkpoint(folder)
    if not steps:
        raise CheckpointError(f"{workdir} has no checkpoints yet")
    named = {str(number): number for number in steps} | {"last": steps[-1], "best": best[0] if best else steps[-1]}
    number = named.get(str(step))
    if number is None:
        raise CheckpointError(f"{workdir} has no checkpoint {step!r}; there are {steps}, 'best' and 'last'")
    if problem := damage(folder / str(number), "model"):
        raise CheckpointError(f"checkpoint {number} of {workdir} cannot be read: {problem}; there are {steps}")
    model = read_item(folder / str(number) / "model")
    params = dict(model.get("ema_params", model["params"]))
    params.pop(OWN, None)
    return {"params": params, **model.get("model_state", {})}, number


def read_item(path: Path, like: Any = None) -> Any:
    """The arrays of one item of a checkpoint, with the shardings of ``like``; default: on the first device."""
    with contextlib.closing(ocp.StandardCheckpointer()) as reader:
        if like is None:
            device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
            abstract = functools.partial(jax.ShapeDtypeStruct, sharding=device)
            like = jax.tree.map(lambda x: abstract(x.shape, x.dtype), reader.metadata(path).item_metadata.tree)
        return reader.restore(path, like)


# --- weights ----------------------------------------------------------------------------------


def export(workdir: Folder, out: Folder, step: str | int = "best", dtype: str = "bfloat16") -> list[Path]:
    """Writes a run's model into a small folder that `open_run` opens as it does the run's.

    The config goes along, without the places of the data on this machine.

    Args:
      workdir: the run's folder.
      out: the folder to write; may hold other files.
      step: ``best``, ``last`` or a number.
      dtype: of the weights, ``bfloat16`` (8 bits of precision, half the size) or ``float32``.

    Returns:
      The files written.

    Raises:
      ConfigError, CheckpointError: no such run, checkpoint or dtype, or ``out`` is the folder of a run.
    """
    run = open_run(workdir, step)
    config = run.config.copy_and_resolve_references()
    config.data.data_dir = config.data.path = config.train.start = None
    return save_weights(out, config, run.variables, run.step, dtype)


def save_weights(
    folder: Folder, config: ConfigDict, variables: Any, step: int = 0, dtype: str = "float32"
) -> list[Path]:
    """Writes the variables of the model of ``config`` as `export` does; an own loop has the config of `config_of`.

    Raises:
      ConfigError: no such dtype, or ``folder`` is the folder of a run.
    """
    folder = Path(folder)
    check_choice("dtype", dtype, DTYPES)
    if (folder / CHECKPOINTS).exists():
        raise ConfigError(f"{folder} is the folder of a run; export into another one")
    rounded = jax.tree.map(lambda x: np.asarray(x).astype(jnp.dtype(dtype)), variables)
    content = {"step": int(step), "dtype": dtype, "variables": rounded}
    with processes.replacing(folder / WEIGHTS) as path:
        path.write_bytes(flax.serialization.msgpack_serialize(content))
    write_manifest(folder, [folder / WEIGHTS])
    return [config_lib.dump_config(config, folder), folder / WEIGHTS, folder / MANIFEST]


def config_of(model: Any) -> ConfigDict:
    """The config that is saved with a model which `train` has not trained."""
    height, _, channels = model.image_shape
    config = config_lib.default_config(dict(model.made_of)["name"])
    config.model = model_section(model)
    config.data.update(source=config_lib.ARRAYS, image_size=height, channels=channels)
    config.image_shape = tuple(model.image_shape)
    return config


def model_section(model: Any) -> ConfigDict:
    """``config.model`` of a model: the call of its constructor, or what its config has to know of one made by hand."""
    own = dict(name=config_lib.CUSTOM, likelihood=model.likelihood, prior_sees_images=model.prior_sees_images)
    return ConfigDict(dict(model.made_of) or own)


def _exported(folder: Folder, step: str | int) -> tuple[dict[str, Any], int, str]:
    """``(variables, step, dtype)``: float32 arrays, and the dtype that they were rounded to."""
    if problem := damage(Path(folder)):
        raise CheckpointError(f"the weights in {folder} cannot be read: {problem}; copy them again")
    found = flax.serialization.msgpack_restore((Path(folder) / WEIGHTS).read_bytes())
    if str(step) not in ("best", "last", str(found["step"])):
        raise CheckpointError(f"{folder} holds the weights of step {found['step']} only, not of {step!r}")
    variables = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), found["variables"])
    return variables, found["step"], found["dtype"]


# --- metrics ----------------------------------------------------------------------------------


def read_metrics(workdir: Folder) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``; those that cannot be read (the last one, cut short by a kill) are left out."""
    path = Path(workdir) / METRICS_FILE
    lines = []
    for text in path.read_text(errors="replace").splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            lines.append(json.loads(text))
    return lines
