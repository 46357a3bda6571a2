"""The task `sample` on a run with random variables: pictures, numbers, and their conditions."""

import numpy as np
import pytest
from PIL import Image
from tiny_evaluation import changed, results_of

from hfsgm_jax.evaluation.sample import Samples, sample

KINDS = "conditional", "one_pass", "refined"


@pytest.fixture(scope="module")
def done(tiny_run):
    """The evaluation and its results; the program is compiled once."""
    run = changed(tiny_run, max_sets=5, samples=3, iterations=2, ways=4)
    return run, results_of(run, sample)


def test_every_kind_has_a_picture(done):
    run, results = done
    drawn = [picture for result in results for picture in result.get("pictures", ())]
    names = "reconstruction", *KINDS, "unconditional", "refinement"
    assert sorted(drawn) == sorted(f"eval/{name}_strokes_test_3.png" for name in names)
    for picture in drawn:
        with Image.open(run.workdir / picture) as image:
            assert min(image.size) > 100


def test_numbers_of_every_kind_with_their_conditions(done):
    found = {(result["name"], result["kind"]): result for result in done[1] if "value" in result}
    assert set(found) == {(name, kind) for name in ("recognised", "diversity", "copying") for kind in KINDS}
    conditions = dict(samples_per_class=3, classes=5, set_size=3, num_sets=5, temperature=1.0, split="test")
    for (_, kind), result in found.items():
        assert conditions.items() <= result.items()
        assert result.get("iterations") == (2 if kind == "refined" else None)
        assert np.isfinite(result["value"]) and result["standard_error"] >= 0
    recognised = found["recognised", "conditional"]
    assert recognised["ways"] == 4 and 0 <= recognised["value"] <= 1 and recognised["parts"]["real_images"] > 0.7


def test_contexts_are_those_of_other_tasks(done):
    run, _ = done
    own = Samples(run)
    np.testing.assert_array_equal(own.contexts.images, run.sets.images)
    np.testing.assert_array_equal(own.sets.images[:, :3], own.contexts.images)
    assert own.sets.num_slots == 20 and own.sets.observed.all()


def test_only_imagined_classes_do_without_the_context(done):
    own, other = Samples(done[0]), Samples(done[0])
    other.contexts = other.contexts.replace(images=1 - other.contexts.images)
    for kind in (*KINDS, "reconstruction", "unconditional"):
        assert (own.drawn[kind] == other.drawn[kind]).all() == (kind == "unconditional")
    np.testing.assert_array_equal(own.drawn["film"][:, 0], own.drawn["conditional"][:, 0])
    np.testing.assert_array_equal(own.drawn["film"][:, -1], own.drawn["refined"][:, 0])


def test_what_is_drawn_of_a_set(done):
    shapes = {kind: images.shape[1:-3] for kind, images in Samples(done[0]).drawn.items()}
    means = dict(reconstruction=(3,), conditional=(8,), one_pass=(8,), refined=(8,), unconditional=(8,), film=(3,))
    assert shapes == means | dict(conditional_draws=(8,), one_pass_draws=(8,), refined_draws=(8,))
