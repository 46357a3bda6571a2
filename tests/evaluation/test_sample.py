"""The task `sample` on a trained run: pictures, numbers, transfer data, and what a VAE has of it."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from hfsgm_jax import sampling
from hfsgm_jax.data import DataError
from hfsgm_jax.evaluation import Evaluation, sample
from hfsgm_jax.evaluation.draws import draw_set
from hfsgm_jax.evaluation.run import evaluate
from hfsgm_jax.run_folder import open_run
from hfsgm_jax.trace import Sets

OPTIONS = dict(max_sets=5, samples=3, iterations=2, ways=4, transfer=("mnist", "omniglot", "strokes"))


@pytest.fixture(scope="module")
def done(run_folder):
    """``(evaluation, records)`` of the whole task; its program is compiled once."""
    run = open_run(run_folder, overrides={f"eval.{key}": value for key, value in OPTIONS.items()})
    evaluation = Evaluation(Path(run_folder), run.config, run.model, run.variables, run.step)
    own = evaluation.load()

    def load(split=None, source=None):
        """Other data: MNIST is a few of the own, Omniglot is not at hand."""
        if source == "omniglot":
            raise DataError("there is no Omniglot here")
        return own

    object.__setattr__(evaluation, "load", load)
    outcome = evaluate(evaluation, ["sample"])
    assert outcome.status == 0
    return evaluation, json.loads((run_folder / "eval" / "sample.json").read_text())


def test_every_kind_has_a_picture(done):
    evaluation, records = done
    pictures = [picture for record in records for picture in record.get("pictures", ())]
    names = "reconstruction conditional one_pass refined unconditional sample refinement sample_quality recognised"
    expected = [f"eval/{name}.png" for name in names.split()] + ["eval/sample_mnist.png"]
    assert sorted(pictures) == sorted([*expected, "eval/refinement.gif"])
    for picture in pictures:
        with Image.open(evaluation.workdir / picture) as image:
            assert min(image.size) > 100
    with Image.open(evaluation.workdir / "eval/refinement.gif") as film:
        assert film.n_frames == 3  # the start and two iterations
    assert not (evaluation.folder / "unfinished").exists()


def test_numbers_of_every_kind_with_their_conditions(done):
    _, records = done
    found = {(record["name"], record["kind"]): record for record in records if "value" in record}
    kinds = "conditional", "one_pass", "refined"
    assert set(found) == {(name, kind) for name in ("recognised", "diversity", "copying") for kind in kinds}
    for (name, kind), record in found.items():
        conditions = dict(samples_per_class=3, classes=5, set_size=3, num_sets=5, temperature=1.0, split="test")
        assert conditions.items() <= {k: v for k, v in record.items() if k in conditions}.items(), name
        assert record.get("iterations") == (2 if kind == "refined" else None)
        assert np.isfinite(record["value"]) and record["standard_error"] >= 0
    assert found["recognised", "refined"]["ways"] == 4
    assert 0 <= found["recognised", "conditional"]["value"] <= 1
    assert found["recognised", "conditional"]["parts"]["real_images"] > 0.7


def test_a_source_that_is_not_at_hand_is_said(done, capsys):
    evaluation, _ = done
    assert list(sample._transfer(evaluation, "omniglot")) == []
    assert "no pictures of omniglot: there is no Omniglot here" in capsys.readouterr().out
    shape = evaluation.config.image_shape
    evaluation.config.image_shape = (28, 28, 3)
    assert list(sample._transfer(evaluation, "mnist")) == []
    evaluation.config.image_shape = shape
    assert "its images are (28, 28, 1), the model's (28, 28, 3)" in capsys.readouterr().out


def test_contexts_are_those_of_other_tasks(done):
    evaluation, _ = done
    own = sample._classes(evaluation, evaluation.dataset, 4)
    np.testing.assert_array_equal(own.contexts.images, evaluation.sets().images[:4])
    np.testing.assert_array_equal(own.images[:, :3], own.contexts.images)
    assert own.images.shape[1] == 20 and own.mask.all()
    assert own.conditions["num_sets"] == 4


def shapes(model, variables, **static):
    row = Sets.of(np.zeros((1, 2, 28, 28, 1), np.float32))
    row = jax.tree.map(lambda x: x[0], row)

    def draw(variables, row, key):
        return draw_set(*sampling.bind(model, variables), row, key, **static)

    return {kind: x.shape[:-3] for kind, x in jax.eval_shape(draw, variables, row, jax.random.key(0)).items()}


def test_what_is_drawn_of_a_set(tiny, tiny_vae):
    static = dict(num=6, chains=4, shown=3, num_iterations=5, films=2)
    new = dict(conditional=(3,), one_pass=(3,), refined=(3,), film=(2, 6))
    draws = dict(conditional_draws=(6,), one_pass_draws=(6,), refined_draws=(4,))
    own = dict(reconstruction=(2,), unconditional=(3,))
    assert shapes(*tiny, **static) == new | draws | own
    assert shapes(*tiny_vae[1:], **static) == own


def test_temperature_and_context_reach_the_samples(tiny):
    """Without noise in the latents all new images of a set have one mean; imagined ones look at no context."""
    static = dict(num=2, chains=2, shown=2, num_iterations=1)
    images = jax.random.bernoulli(jax.random.key(0), 0.3, (1, 2, 28, 28, 1)).astype(np.float32)

    @jax.jit
    def draw(images, temperature):
        row = jax.tree.map(lambda x: x[0], Sets.of(images))
        apply, encode = sampling.bind(*tiny)
        return draw_set(apply, encode, row, jax.random.key(1), temperature=temperature, **static)

    cold, warm, other = draw(images, 0.0), draw(images, 1.0), draw(1 - images, 0.0)
    for kind in ("conditional", "one_pass", "unconditional"):
        np.testing.assert_array_equal(cold[kind][0], cold[kind][1])
        assert (warm[kind][0] != warm[kind][1]).any()
        assert (cold[kind] == other[kind]).all() == (kind == "unconditional")
    assert (cold["conditional_draws"][0] != cold["conditional_draws"][1]).any()  # pixels are still drawn
