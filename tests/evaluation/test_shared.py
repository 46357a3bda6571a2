"""The task `shared` on tiny models: bounds and KLs add up, evidence of others is of others, pictures, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tiny_model import random_variables, tiny_config

from hfsgm_jax import data, sampling
from hfsgm_jax.data import styles
from hfsgm_jax.evaluation import Evaluation, EvaluationError, NotApplicable, shared, shared_pictures
from hfsgm_jax.models import build_model
from hfsgm_jax.trace import SET, STYLE

CLASSES, DRAWINGS, STYLES = 6, 8, 3


def drawings(channels, **fields):
    """Six classes in three groups: class k is a bar at its own height, its length tells the drawing."""
    images = np.zeros((CLASSES * DRAWINGS, 28, 28, channels), np.uint8)
    for i, image in enumerate(images):
        image[3 + 4 * (i // DRAWINGS)][: 10 + 2 * (i % DRAWINGS)] = 255
    size = np.full(CLASSES, DRAWINGS, np.int32)
    classes = np.arange(CLASSES, dtype=np.int32)
    info = dict.fromkeys(("source", "split", "scheme", "resize", "image_size", "sha256"), "tiny") | {"styles": STYLES}
    return data.Dataset(images, np.cumsum(size) - size, size, classes, classes // 2, info, **fields)


def evaluation_of(folder, dataset, model, data_keys, **options):
    config = tiny_config()
    config.data.update(set_size=2, **data_keys)
    config.model.update(width=8, c_channels=2, z_channels=2, layers=1, blocks=1, aggregate="mean", **model)
    config.objective.update(name="vhe", targets=1)
    config.eval.update(max_sets=CLASSES, sets_per_batch=2, ways=4, **options)
    shape = config.image_shape = (28, 28, config.data.channels)
    module = build_model(config.model, shape)
    variables = random_variables(module, shape, scale=1.0)
    variables = jax.tree_util.tree_map_with_path(_tame, variables)
    evaluation = Evaluation(folder, config, module, variables, step=2)
    object.__setattr__(evaluation, "load", lambda split=None, source=None: dataset)
    return evaluation


def _tame(path, x):
    """Random kernels that neither blow up nor vanish; variances of batch norm above 0."""
    x = x / max(1, np.prod(x.shape[:-1])) ** 0.5
    return jnp.abs(x) + 0.5 if path[-1].key == "var" else x


@pytest.fixture(scope="module")
def hierarchical(tmp_path_factory):
    model = dict(name="hierarchical_vhe", a_channels=2)
    return evaluation_of(tmp_path_factory.mktemp("a"), drawings(1), model, dict(group_size=2))


@pytest.fixture(scope="module")
def factorial(tmp_path_factory):
    model = dict(name="factorial_vhe", style_channels=2, context_prior="normal", context_kernel=3)
    model |= dict(likelihood="discretized_normal")
    keys = dict(channels=3, binarize="none", styles=STYLES, style_size=2)
    dataset = drawings(3, style=styles.assign(CLASSES * DRAWINGS, STYLES))
    return evaluation_of(tmp_path_factory.mktemp("s"), dataset, model, keys)


@pytest.fixture(scope="module")
def records(hierarchical, factorial):
    found = {}
    for name, evaluation in (("hierarchical", hierarchical), ("factorial", factorial)):
        shared.check(evaluation)
        found[name] = list(shared.shared(evaluation))
    return found


@pytest.mark.parametrize("name,plate,unit", [("hierarchical", "a1", "group"), ("factorial", "s1", "style")])
def test_the_bound_is_the_sum_of_its_parts(records, name, plate, unit):
    found = records[name]
    own = next(record for kind, record in found if kind == "bound" and record["evidence"] == "own")
    parts = own["parts"]
    assert set(parts) == {"log_px", "kl_z", "kl_c1", f"kl_{plate}"}
    np.testing.assert_allclose(own["value"], sum(parts.values()) - 2 * parts["log_px"], rtol=1e-5)
    kls = {kind: record for kind, record in found if kind.startswith("kl_")}
    for label in ("c1", plate):
        np.testing.assert_allclose(kls[f"kl_{label}"]["parts"]["per_image"], parts[f"kl_{label}"], rtol=1e-5)
    np.testing.assert_allclose(kls["kl_c1"]["value"] / DRAWINGS, parts["kl_c1"], rtol=1e-5)
    assert kls[f"kl_{plate}"]["unit"] == f"nats/{unit}" and kls[f"kl_{plate}"]["value"] > 0
    if name == "hierarchical":  # two classes to a group
        np.testing.assert_allclose(kls["kl_a1"]["value"] / (2 * DRAWINGS), parts["kl_a1"], rtol=1e-5)
    evidence = {record["evidence"] for kind, record in found if kind == "bound"}
    assert evidence == {"own", "other class", f"other {unit}"}
    conditions = dict(set_size=2, num_sets=CLASSES, targets=1, objective="vhe", split="tiny")
    assert all(conditions.items() <= record.items() for kind, record in found if kind in ("bound", "kl_z", *kls))


def test_evidence_of_others_is_of_others_and_nothing_else_changes(factorial):
    batch, _ = shared._drawn(factorial)
    sets = shared._sets(batch)
    for plate, which in ((SET, batch.label), (STYLE, batch.style)):
        other = shared._with_other_evidence(sets, plate, which)
        mask = sets.context[plate]
        assert (other.images[~mask] == sets.images[~mask]).all()
        for row, images in enumerate(other.images):
            given = [i for i in range(CLASSES) if (sets.images[i][mask[row]] == images[mask[row]]).all()]
            assert given and all(which[i] != which[row] for i in given)
    assert shared._with_other_evidence(sets, STYLE, np.zeros(CLASSES)) is None


def test_pictures_are_drawn_and_drawings_recognised(records, hierarchical, factorial):
    names = [kind for kind, _ in records["hierarchical"]][-2:]
    assert names == ["alphabets", "characters"]
    names = [kind for kind, _ in records["factorial"]][-5:]
    assert names == ["style_transfer"] + ["style_recognised", "content_recognised"] * 2
    assert [record["kind"] for _, record in records["factorial"][-4:]] == ["means"] * 2 + ["draws"] * 2
    for name, evaluation in (("hierarchical", hierarchical), ("factorial", factorial)):
        for picture in (p for _, record in records[name] for p in record.get("pictures", ())):
            with Image.open(evaluation.workdir / picture) as image:
                assert min(image.size) > 100
    found = dict(records["factorial"])
    assert found["style_recognised"]["parts"] == {"real_images": 1.0, "chance": 1 / STYLES}
    assert found["content_recognised"]["parts"] == {"real_images": 1.0, "chance": 1 / 4}
    for name, ways in (("style_recognised", STYLES), ("content_recognised", 4)):
        assert 0 <= found[name]["value"] <= 1 and found[name]["ways"] == ways


def test_images_follow_the_values_they_are_given(hierarchical):
    """New characters depend on a alone: another a, other images; the same a, the same but for noise."""
    apply, encode = sampling.bind(hierarchical.model, hierarchical.variables)
    static = dict(num=2, image_shape=(28, 28, 1))

    @jax.jit
    def draw(a, key, temperature):
        row = {"a1": jnp.full((1, 2), a)}
        return shared_pictures.from_values(apply, encode, row, key, temperature=temperature, **static)["means"]

    keys = jax.random.split(jax.random.key(0))
    cold, again, other = draw(0.0, keys[0], 0.0), draw(0.0, keys[1], 0.0), draw(3.0, keys[0], 0.0)
    np.testing.assert_array_equal(cold[0], cold[1])
    np.testing.assert_array_equal(cold, again)
    assert (cold != other).any() and (draw(0.0, keys[0], 1.0) != draw(0.0, keys[1], 1.0)).any()


def test_alphabets_show_different_characters_of_one_group(hierarchical):
    images, mask = shared_pictures._of_groups(hierarchical, 3)
    assert images.shape == (3, 3, 28, 28, 1) and mask.sum(1).tolist() == [2, 2, 2]  # a group has two classes
    height = (images[..., 0].sum(-1) > 0).argmax(-1)  # of the bar: 3 + 4 class
    groups = (height[:, :2] - 3) // 4 // 2
    assert (groups == groups[:, :1]).all() and sorted(groups[:, 0]) == [0, 1, 2]
    assert (height[:, 0] != height[:, 1]).all()


def test_refusals(hierarchical, factorial, tiny, tmp_path):
    config = tiny_config()
    with pytest.raises(NotApplicable, match="'scha_vae' has none"):
        shared.check(Evaluation(tmp_path, config, *tiny, step=2))
    one_group = drawings(1)
    one_group.group = 0 * one_group.group
    plain = drawings(3)
    for evaluation, dataset, message in (
        (hierarchical, one_group, "classes of several groups"),
        (factorial, plain, "images in styles"),
    ):
        copy = Evaluation(tmp_path, evaluation.config, evaluation.model, evaluation.variables, 2)
        object.__setattr__(copy, "load", lambda split=None, source=None, dataset=dataset: dataset)
        with pytest.raises(EvaluationError, match=message):
            shared.check(copy)
