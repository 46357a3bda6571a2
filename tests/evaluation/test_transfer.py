"""Other sources: what is recorded, what is left out, what is refused."""

import dataclasses

import numpy as np
import pytest
from tiny_evaluation import changed, is_picture, results_of

from hfsgm_jax import data
from hfsgm_jax.errors import DataError, NotApplicable
from hfsgm_jax.evaluation.transfer import transfer

INFO = dict(split="test", scheme="official", resize="box", image_size=28, sha256="0", composed_of="mnist")


@pytest.fixture(autouse=True)
def sources(monkeypatch):
    """Digits of noise under the names of the real sources; ``triple_mnist`` is not at hand."""
    rng = np.random.default_rng(0)
    images = (255 * rng.uniform(0, 0.5, (4, 1, 28, 28, 1)) ** 2).astype(np.uint8)
    whole = data.Dataset.from_arrays(np.repeat(images, 6, 1).reshape(24, 28, 28, 1), np.repeat(np.arange(4), 6))

    def load(config, split, source=None, dataset=None):
        if source == "triple_mnist":
            raise DataError("mnist is not prepared: get it")
        return dataclasses.replace(whole, info=dict(INFO, source=source))

    monkeypatch.setattr(data, "load_dataset", load)


def test_sources_are_recorded_over_set_sizes(tiny_run, capsys):
    *results, figure = results_of(changed(tiny_run), transfer)
    assert "transfer goes without triple_mnist: mnist is not prepared: get it" in capsys.readouterr().err
    numbers = {(r["source"], r["set_size"]): r for r in results if r["name"] == "nelbo"}
    assert set(numbers) == {(s, n) for s in ("mnist", "double_mnist") for n in (1, 3)}
    for record in numbers.values():
        assert record["composed_of"] == "mnist" and record["num_sets"] == 15 / record["set_size"]
        assert record["num_classes"] == 4 and record["standard_error"] >= 0
        assert ("increase_error" in record["parts"]) == (record["set_size"] > 1)
        assert record["value"] > 0 and record["parts"]["kl_c"] > 0
    pixels = [record for record in results if record["name"] == "independent_pixels"]
    assert [record["source"] for record in pixels] == ["mnist", "double_mnist"]
    assert all(record["value"] < 28 * 28 * np.log(2) for record in pixels)
    assert is_picture(tiny_run, figure)


def test_a_vae_gets_one_number_per_source(vae_run):
    (nelbo, *_) = results_of(changed(vae_run, max_sets=6, transfer=("mnist",)), transfer)
    assert nelbo["images_one_by_one"] and nelbo["set_size"] == 1 and nelbo["num_sets"] == 6


def test_sources_that_are_not_at_hand_are_refused(tiny_run):
    with pytest.raises(DataError, match="none of the sources .* is at hand: triple_mnist"):
        next(transfer(changed(tiny_run, transfer=("triple_mnist",))))


def test_colour_models_do_not_transfer(tiny_run):
    with pytest.raises(NotApplicable, match="in colour"):
        next(transfer(changed(tiny_run, {"data.channels": 3})))
