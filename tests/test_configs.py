"""Every experiment loads, is valid, builds, and has the number of parameters on record."""

import json

import pytest

from hfsgm_jax.config import check_config
from scripts import parameters, readme, reproduce
from scripts.results import RESULTS

EXPERIMENTS = parameters.experiments()
RECORDED = json.loads(parameters.COUNTS.read_text())
RERUN = "if that is intended: make parameters"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_is_valid_and_has_the_recorded_number_of_parameters(name):
    config = parameters.load(name)
    check_config(config)
    assert parameters.count(config) == RECORDED.get(name), RERUN
    text = (parameters.ROOT / "configs" / f"{name}.py").read_text()
    assert f"python train.py --config=configs/{name}.py" in text


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


def test_the_table_is_up_to_date():
    assert sorted(RECORDED) == EXPERIMENTS, RERUN
    assert readme.part("parameters") == parameters.table(RECORDED), RERUN


@pytest.mark.parametrize("run", reproduce.CONFIGS)
def test_a_kept_run_is_of_its_config(run):
    config = json.loads(json.dumps(parameters.load(*reproduce.CONFIGS[run]).to_dict()))  # with lists, as it is kept
    trained = json.loads((RESULTS / run / "config.json").read_text())
    for section in ("model", "data", "objective", "optimizer"):
        assert trained[section].items() <= config[section].items()
    assert trained["train"]["steps"] == config["train"]["steps"]
    assert f"--config=configs/{reproduce.CONFIGS[run][0]}.py" in reproduce.commands(run)
    assert f"--workdir=runs/{run}" in reproduce.commands(run)
