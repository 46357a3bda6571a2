"""Every experiment loads, has base's keys, builds, and has the number of parameters on record."""

import json

import pytest

from configs import base
from hfsgm_jax.config import ADDED, check_config, flatten, load_config
from scripts import parameters, readme

EXPERIMENTS = parameters.experiments()
RECORDED = json.loads(parameters.COUNTS.read_text())
RERUN = "if that is intended: make parameters"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_loads_with_the_keys_of_base(name):
    config = parameters.load(name)
    assert flatten(config).keys() == flatten(base.get_config()).keys()
    check_config(config)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_builds_with_the_recorded_number_of_parameters(name):
    variables = parameters.init_shapes(parameters.load(name))
    assert parameters.count(variables) == RECORDED.get(name), RERUN


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name.startswith("omniglot_")])
def test_omniglot_experiments_take_the_split_as_argument(name):
    back_eval, ns = parameters.load(name), parameters.load(name, "ns")
    assert (back_eval.data.split, back_eval.data.resize) == ("back_eval", "gmn")
    assert (ns.data.split, ns.data.resize) == ("ns", "box")
    assert ns.model.to_dict() == back_eval.model.to_dict()
    check_config(ns)


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match="back_eval.*'nss'"):
        parameters.load("omniglot_ns", "nss")


def test_every_experiment_says_how_to_run_it():
    for name in EXPERIMENTS:
        text = (parameters.ROOT / "configs" / f"{name}.py").read_text()
        assert f"python train.py --config=configs/{name}.py" in text, name


def test_tables_are_up_to_date():
    assert sorted(RECORDED) == EXPERIMENTS, RERUN
    assert readme.part("parameters") == parameters.table(RECORDED), RERUN


def test_runs_of_older_versions_have_every_key():
    """The oldest results kept here, and what `load_config` fills in, make all of base's keys."""
    old, new = flatten(load_config(parameters.ROOT / "results" / "cpu_best_gmn")), flatten(base.get_config())
    assert {key for key in new if not key.startswith("eval.")} <= old.keys()
    assert all(new[key] == (list(value) if isinstance(value, tuple) else value) for key, value in ADDED.items())
