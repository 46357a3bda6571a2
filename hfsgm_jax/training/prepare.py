"""What a run needs before it starts: its data, and what of its config follows from them."""

from typing import Any

from ml_collections import ConfigDict

from hfsgm_jax import config as config_lib
from hfsgm_jax import data

STREAM_LOOK = 256  # images looked at where not all are in memory


def load_data(config: ConfigDict) -> tuple[Any, Any]:
    """The training data and the fixed sets of the validation."""
    train_data = data.load_dataset(config.data, "train")
    check_range(config, train_data)
    val_data = data.load_dataset(config.data, "val")
    settings = config.data.set_size, config.eval.val_sets, config.eval.seed, config.data.binarize
    return train_data, data.fixed_sets(val_data, *settings)


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
