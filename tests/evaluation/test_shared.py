"""The task `shared` on tiny models: pictures, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tiny_evaluation import results_of
from tiny_model import random_variables

import hfsgm_jax
from hfsgm_jax.data import Dataset, styles
from hfsgm_jax.errors import NotApplicable
from hfsgm_jax.evaluation import Evaluation, shared

CLASSES, DRAWINGS, STYLES = 6, 8, 3


def drawings(channels, style=None):
    """Six classes in three groups: class k is a bar at its own height, its length tells the drawing."""
    images = np.zeros((CLASSES * DRAWINGS, 28, 28, channels), np.uint8)
    for i, image in enumerate(images):
        image[3 + 4 * (i // DRAWINGS)][: 10 + 2 * (i % DRAWINGS)] = 255
    labels = np.repeat(np.arange(CLASSES), DRAWINGS)
    info = dict.fromkeys(("source", "split", "scheme", "resize", "image_size", "sha256"), "tiny") | {"styles": STYLES}
    dataset = Dataset.from_arrays(images, labels, labels // 2, info=info)
    dataset.style = style
    return dataset


def run_of(folder, dataset, name, data, **model):
    config = hfsgm_jax.default_config(name)
    config.data.update(set_size=2, **data)
    config.model.update(width=8, c_channels=2, z_channels=2, **model)
    config.objective.update(name="vhe", targets=1)
    config.eval.update(max_sets=CLASSES, sets_per_batch=2, ways=4)
    shape = 28, 28, dataset.images.shape[-1]
    module = hfsgm_jax.build_model(config.model, shape)
    variables = jax.tree_util.tree_map_with_path(_tame, random_variables(module, shape, scale=1.0))
    run = Evaluation(folder, config, module, variables, step=2)
    object.__setattr__(run, "load", lambda split=None, source=None: dataset)
    return run


def _tame(path, x):
    """Random kernels that neither blow up nor vanish; variances of batch norm above 0."""
    x = x / max(1, np.prod(x.shape[:-1])) ** 0.5
    return jnp.abs(x) + 0.5 if path[-1].key == "var" else x


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    style = styles.assign(CLASSES * DRAWINGS, STYLES)
    factorial = dict(style_channels=2, context_prior="normal", context_kernel=3, likelihood="discretized_normal")
    data = dict(channels=3, binarize="none", styles=STYLES, style_size=2)
    return {
        "group": run_of(
            tmp_path_factory.mktemp("a"), drawings(1), "hierarchical_vhe", dict(group_size=2), a_channels=2, layers=1
        ),
        "style": run_of(tmp_path_factory.mktemp("s"), drawings(3, style), "factorial_vhe", data, **factorial),
    }


@pytest.fixture(scope="module")
def results(runs):
    return {name: results_of(run, shared.shared) for name, run in runs.items()}


def test_pictures_are_drawn(results, runs):
    assert [[found["name"] for found in results[x]] for x in ("group", "style")] == [["alphabets"], ["style_transfer"]]
    for name, run in runs.items():
        for picture in (picture for found in results[name] for picture in found.get("pictures", ())):
            with Image.open(run.workdir / picture) as image:
                assert min(image.size) > 100


def test_alphabets_show_different_characters_of_one_group(runs):
    images, mask = shared.of_groups(runs["group"], 3)
    assert images.shape == (3, 3, 28, 28, 1) and mask.sum(1).tolist() == [2, 2, 2]  # a group has two classes
    height = (images[..., 0].sum(-1) > 0).argmax(-1)  # of the bar: 3 + 4 class
    groups = (height[:, :2] - 3) // 4 // 2
    assert (groups == groups[:, :1]).all() and sorted(groups[:, 0]) == [0, 1, 2]
    assert (height[:, 0] != height[:, 1]).all()


def test_a_model_of_sets_alone_is_refused(tiny_run):
    with pytest.raises(NotApplicable, match="'scha_vae' has none"):
        next(shared.shared(tiny_run))
