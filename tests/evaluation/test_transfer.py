"""Other sources: what is recorded, what is left out, what is refused."""

import dataclasses

import numpy as np
import pytest
from tiny_evaluation import evaluation_of
from tiny_model import random_variables, tiny_config

from hfsgm_jax import data
from hfsgm_jax.data import DataError
from hfsgm_jax.evaluation import Evaluation, EvaluationError, NotApplicable, transfer
from hfsgm_jax.evaluation.run import evaluate

INFO = dict(
    split="test", scheme="official", resize="box", image_size=28, sha256="0", composed_of="mnist", tfds_splits=["test"]
)


@pytest.fixture
def sources(monkeypatch):
    """Digits of noise under the names of the real sources; ``triple_mnist`` is not at hand."""
    rng = np.random.default_rng(0)
    images = (255 * rng.uniform(0, 0.5, (4, 1, 28, 28, 1)) ** 2).astype(np.uint8)
    whole = data.Dataset(
        images=np.repeat(images, 6, 1).reshape(24, 28, 28, 1),
        start=np.arange(0, 24, 6, dtype=np.int32),
        size=np.full(4, 6, np.int32),
        label=np.arange(4, dtype=np.int32),
        group=np.zeros(4, np.int32),
        info={},
    )

    def load(config, split, source=None):
        if source == "triple_mnist":
            raise DataError("mnist is not prepared: get it")
        assert split == "test"
        return dataclasses.replace(whole, info=dict(INFO, source=source))

    monkeypatch.setattr(data, "load_dataset", load)


def test_sources_are_recorded_over_set_sizes(run_folder, sources, capsys):
    outcome = evaluate(evaluation_of(run_folder, set_sizes=(1, 3)), ["transfer"])
    assert outcome.status == 0
    assert "triple_mnist: mnist is not prepared: get it" in capsys.readouterr().err
    records = outcome.results["transfer"]
    numbers = {(r["source"], r["set_size"]): r for r in records if r["name"] == "nelbo"}
    assert set(numbers) == {(s, n) for s in ("mnist", "double_mnist") for n in (1, 3)}
    for record in numbers.values():
        assert (
            record["composed_of"] == "mnist"
            and record["tfds_splits"] == ["test"]
            and record["num_sets"] == 5
            and record["standard_error"] >= 0
        )
        assert 0 < record["value"] < 28 * 28 and record["parts"]["kl_c"] > 0
    pixels = [record for record in records if record["name"] == "independent_pixels"]
    assert [record["source"] for record in pixels] == ["mnist", "double_mnist"]
    assert all(record["value"] < 28 * 28 * np.log(2) for record in pixels)
    assert (run_folder / records[-1]["pictures"][0]).read_bytes().startswith(b"\x89PNG")


def test_a_vae_gets_one_number_per_source(tiny_vae, tmp_path, sources):
    config, model, _ = tiny_vae
    config.eval.update(max_sets=6, transfer=("mnist",), set_sizes=(1, 2))
    evaluation = Evaluation(tmp_path, config, model, random_variables(model, scale=0.1), 0)
    records = evaluate(evaluation, ["transfer"]).results["transfer"]
    (nelbo,) = (record for record in records if record["name"] == "nelbo")
    assert nelbo["images_one_by_one"] and nelbo["set_size"] == 1 and nelbo["num_sets"] == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(transfer=("mnist", "mnits")), r"eval.transfer is \('mnist', 'mnits'\); it is one or more of .*mnist"),
        (dict(transfer=()), "one or more of"),
        (dict(transfer=("triple_mnist",)), r"none of the sources .*\n  triple_mnist: mnist is not prepared: get it"),
        (dict(set_sizes=(1, 7)), "sets of 7 images, but the smallest class of mnist .test. has 6"),
    ],
)
def test_what_it_cannot_do_is_refused(run_folder, sources, options, message):
    with pytest.raises(EvaluationError, match=message):
        transfer.check(evaluation_of(run_folder, **options))


def test_colour_models_do_not_transfer():
    config = tiny_config()
    config.data.channels = 3
    with pytest.raises(NotApplicable, match="in colour"):
        transfer.check(Evaluation("nowhere", config, None, None, 0))
