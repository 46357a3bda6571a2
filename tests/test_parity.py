"""Our models with the reference implementation's parameters compute what it computes (docs/parity.md)."""

import json
import re

import chex
import numpy as np
import pytest

import hfsgm_jax
from examples.reference import from_reference
from hfsgm_jax.config import KEYS, model_keys
from hfsgm_jax.errors import CheckpointError, ConfigError
from scripts import parity, readme


@pytest.mark.parametrize("name", parity.MODELS)
def test_all_values_are_those_of_the_reference(name):
    found = parity.differences(name)
    assert all(difference < parity.TOLERANCE for difference in found.values()), found


def test_the_page_is_up_to_date():
    results = json.loads(parity.RESULTS.read_text())
    assert sorted(results) == sorted(path.stem for path in parity.GOLDEN.glob("*.npz"))
    assert readme.part("parity") == parity.table(results), "run: make parity"


def test_every_switch_of_the_page_is_a_key():
    page = (parity.ROOT / "docs" / "parity.md").read_text().partition("## Deliberate deviations")[2]
    known = {**KEYS, **model_keys("scha_vae")} | {"mode": None}
    named = re.findall(r"`((?:\w+\.)?\w+)=", page) + re.findall(r"`((?:data|eval|objective|optimizer)\.\w+)", page)
    assert len(named) > 8
    for name in named:
        assert name in known or f"model.{name}" in known, name


@pytest.fixture(scope="module")
def vae():
    """``(state_dict, config)`` of the smallest model."""
    meta, _ = parity.load("vae")
    return {name: np.zeros(shape) for name, shape in meta["parameters"]}, parity.MODELS["vae"][1] | parity.MODELS[
        "vae"
    ][2]


def test_what_has_no_effect_is_left_out_and_the_rest_can_be_saved(vae, tmp_path):
    state, config = vae
    dead = ["proj.bn.num_batches_tracked", "posterior_z.0.linear_c.weight", "observation_decoder.linear_cs.bias"]
    few = hfsgm_jax.FewShotModel(*from_reference(state | dict.fromkeys(dead, np.zeros(3)), config))
    few.save(tmp_path / "vae")
    chex.assert_trees_all_equal(few.variables, hfsgm_jax.load(tmp_path / "vae").variables)


@pytest.mark.parametrize(
    "config,error,words",
    [
        (dict(name="pixelcnn_vhe"), ConfigError, "'pixelcnn_vhe' is not one of vae, bns"),
        (dict(layers=4), CheckpointError, "no prior_z.2"),
        (dict(blocks=2), CheckpointError, "no place for 30 .*block.2"),
        (dict(z_channels=5), CheckpointError, "has 288 numbers"),
    ],
)
def test_another_model_is_refused(vae, config, error, words):
    with pytest.raises(error, match=words):
        from_reference(vae[0], vae[1] | config)
