"""The task `shared` on tiny models: bounds and KLs add up, evidence of others is of others, pictures, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tiny_evaluation import changed, results_of
from tiny_model import random_variables

import hfsgm_jax
from hfsgm_jax.data import Dataset, styles
from hfsgm_jax.errors import NotApplicable
from hfsgm_jax.evaluation import Evaluation, shared
from hfsgm_jax.trace import SET, STYLE

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


@pytest.mark.parametrize("plate,label", [("group", "a1"), ("style", "s1")])
def test_the_bound_is_the_sum_of_its_parts(results, plate, label):
    bounds = {found["evidence"]: found for found in results[plate] if found["name"] == "bound"}
    assert set(bounds) == {"own", "other class", f"other {plate}"}
    parts = bounds["own"]["parts"]
    assert set(parts) == {"log_px", "kl_z", "kl_c1", f"kl_{label}"}
    np.testing.assert_allclose(bounds["own"]["value"], sum(parts.values()) - 2 * parts["log_px"], rtol=1e-5)
    kls = {found["name"]: found for found in results[plate] if found["name"].startswith("kl_")}
    for name in ("kl_c1", f"kl_{label}"):
        np.testing.assert_allclose(kls[name]["parts"]["per_image"], parts[name], rtol=1e-5)
    np.testing.assert_allclose(kls["kl_c1"]["value"] / DRAWINGS, parts["kl_c1"], rtol=1e-5)
    assert kls[f"kl_{label}"]["unit"] == f"nats/{plate}" and kls[f"kl_{label}"]["value"] > 0
    if plate == "group":  # two classes to a group
        np.testing.assert_allclose(kls["kl_a1"]["value"] / (2 * DRAWINGS), parts["kl_a1"], rtol=1e-5)
    conditions = dict(set_size=2, num_sets=CLASSES, targets=1, objective="vhe", split="tiny")
    assert all(conditions.items() <= found.items() for found in (*bounds.values(), *kls.values()))


def test_evidence_of_others_is_of_others_and_nothing_else_changes(runs):
    sets = shared.drawn(runs["style"])
    for plate in (SET, STYLE):
        other, mask, which = shared.with_other_evidence(sets, plate), sets.context[plate], sets.ids[plate]
        assert (other.images[~mask] == sets.images[~mask]).all()
        for row, images in enumerate(other.images):
            given = [i for i in range(CLASSES) if (sets.images[i][mask[row]] == images[mask[row]]).all()]
            assert given and all(which[i] != which[row] for i in given)
    same = sets.replace(ids=sets.ids | {STYLE: np.zeros(CLASSES)})
    assert shared.with_other_evidence(same, STYLE) is None


def test_pictures_are_drawn_and_drawings_recognised(results, runs):
    assert results["group"][-1]["name"] == "alphabets"
    last = results["style"][-5:]
    assert [found["name"] for found in last] == ["style_transfer"] + ["style_recognised", "content_recognised"] * 2
    assert [found["kind"] for found in last[1:]] == ["means"] * 2 + ["draws"] * 2
    for name, run in runs.items():
        for picture in (picture for found in results[name] for picture in found.get("pictures", ())):
            with Image.open(run.workdir / picture) as image:
                assert min(image.size) > 100
    for found, ways in zip(last[1:], (STYLES, 4, STYLES, 4)):
        assert found["parts"] == {"real_images": 1.0, "chance": 1 / ways}
        assert 0 <= found["value"] <= 1 and found["ways"] == ways


def test_alphabets_show_different_characters_of_one_group(runs):
    images, mask = shared.of_groups(runs["group"], 3)
    assert images.shape == (3, 3, 28, 28, 1) and mask.sum(1).tolist() == [2, 2, 2]  # a group has two classes
    height = (images[..., 0].sum(-1) > 0).argmax(-1)  # of the bar: 3 + 4 class
    groups = (height[:, :2] - 3) // 4 // 2
    assert (groups == groups[:, :1]).all() and sorted(groups[:, 0]) == [0, 1, 2]
    assert (height[:, 0] != height[:, 1]).all()


def test_whole_classes_leave_two_images_to_tell_contents_by(runs):
    run = changed(runs["style"], set_size=DRAWINGS)
    object.__setattr__(run, "load", runs["style"].load)
    contents, others, labels = shared.contents(run)
    assert contents.shape[:2] == (4, DRAWINGS - 2) and len(others) == len(labels) == 4 * 2


def test_a_model_of_sets_alone_is_refused(tiny_run):
    with pytest.raises(NotApplicable, match="'scha_vae' has none"):
        next(shared.shared(tiny_run))
