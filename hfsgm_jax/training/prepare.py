"""What a run needs before it starts: its data, and what of its config follows from them."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from hfsgm_jax import config as config_lib
from hfsgm_jax import data, processes

STREAM_LOOK = 256  # images looked at where not all are in memory


def load_data(config: ConfigDict) -> tuple[Any, Any, Any]:
    """The training data, the fixed sets of the validation, and those of the objective (None: the same ones).

    Raises:
      DataError, ConfigError: what the user has to change; before anything is read where the config alone tells.
    """
    targets = config_lib.num_targets(config)
    data.check_data(config.data, targets)
    train_data = data.load_dataset(config.data, "train")
    check_range(config, train_data)
    check_targets(config, train_data)
    val_data = data.load_dataset(config.data, "val")
    settings = config.data.set_size, config.eval.val_sets, config.eval.seed, config.data.binarize
    fixed = data.fixed_sets(val_data, *settings)
    if not (targets or config.data.group_size):
        return train_data, fixed, None
    spec = data.SetSpec.from_config(config.data, targets, replace=config.objective.tightened)
    spec = dataclasses.replace(spec, rows=config.eval.val_sets)
    return train_data, fixed, data.drawn_sets(val_data, spec, config.eval.seed)


def check_targets(config: ConfigDict, dataset: Any) -> None:
    """Raises a ConfigError where ``objective.targets`` are more than the smallest class has."""
    targets = config.objective.targets
    if targets and targets > dataset.size.min():
        raise config_lib.ConfigError(
            f"objective.targets={targets}: the smallest class of the training data has {dataset.size.min()} images: "
            "use objective.targets of at most that"
        )


def check_range(config: ConfigDict, dataset: Any) -> None:
    """Raises a ConfigError where a Bernoulli likelihood would be given grey pixels."""
    if config.model.likelihood != "bernoulli" or config.data.binarize != "none":
        return
    images = dataset.images[:STREAM_LOOK] if config.data.stream else dataset.images
    if ((images != 0) & (images != images.max())).any():
        raise config_lib.ConfigError(
            f"model.likelihood='bernoulli' is of binary pixels, and the images of {config.data.source!r} are grey: "
            "use data.binarize='dynamic', or model.likelihood='discretized_logistics'"
        )


def resolve(config: ConfigDict, dataset: Any) -> ConfigDict:
    """The config with what follows from the data: ``image_shape``, ``train.steps_per_epoch``.

    An epoch is as many steps as cover the training images once on average; twice as many where
    random warps add a copy of each, eight times where dihedral copies count as classes.
    """
    config = config.copy_and_resolve_references()
    copies = 8 if config.data.dihedral else 2 if config.data.flip or config.data.rotate or config.data.affine else 1
    spec = data.SetSpec.from_config(config.data, config_lib.num_targets(config))
    images_per_step = spec.rows * (spec.targets or (spec.low + spec.high) / 2)
    with config.unlocked():
        config.image_shape = tuple(int(side) for side in dataset.images.shape[1:])
        if not config.train.steps_per_epoch:
            config.train.steps_per_epoch = max(1, round(copies * len(dataset.images) / images_per_step))
    return config


def write_config(config: ConfigDict, workdir: str | os.PathLike, dataset: Any) -> None:
    """Writes ``config.json``, in one process, of a run that all do alike.

    Raises:
      ConfigError: the processes have different configs or data, or do not see the same folder.
    """
    same = {key: value for key, value in config_lib.flatten(config).items() if key not in config_lib.FREE_KEYS}
    processes.check_same(json.dumps(same, sort_keys=True), "the config")
    processes.check_same(str(dataset.info.get("sha256")), "the training data")
    if processes.is_writer():
        config_lib.dump_config(config, workdir)
    processes.barrier("config.json")
    if not processes.all_agree((Path(workdir) / config_lib.CONFIG_FILE).exists()):
        raise config_lib.ConfigError(
            f"not all processes see the {config_lib.CONFIG_FILE} that process 0 has just written in {workdir}: "
            "--workdir has to be a folder that all of them share"
        )
