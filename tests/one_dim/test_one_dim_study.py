"""The 1D study: its runs against the plain training step, its measures against known values, its command."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from tiny_one_dim import exact_gaussian, tiny_study

from examples.one_dim import laws, study
from examples.one_dim.runs import MEASURES, Runs
from hfsgm_jax import setup


def test_runs_side_by_side_are_those_of_the_plain_training_step():
    """Masks instead of fewer slots, and runs as an axis, change nothing."""
    runs = Runs(tiny_study(largest=3), sizes=(2, 3), restarts=2)
    params, errors = runs.train()
    assert errors.shape == (2, 2) and np.isfinite(errors).all()
    for restart, warmup in enumerate((2, 0)):  # every second run is not annealed
        config = tiny_study(largest=2)
        config.objective.kl_warmup = warmup
        run = jax.tree.map(lambda x, restart=restart: x[restart], params)
        chex.assert_trees_all_close(run, _alone(config, seed=restart), rtol=1e-4, atol=1e-6)


def _alone(config, seed):
    """The parameters after training one run by itself."""
    dataset = laws.numbers("gaussian", config.data.seed)
    config.seed = seed
    alone = setup(config, dataset)
    state, batches = Runs(config, (2,), 1).start(seed), alone.batches(0)
    for _ in range(config.train.steps):
        state, _ = alone.step(state, next(batches))
    return state.params.tree


def test_the_best_restart_is_the_one_with_the_lowest_training_error():
    runs = Runs(tiny_study(), sizes=(1, 2), restarts=3)
    errors = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 5.0]])
    np.testing.assert_array_equal(runs.best({"x": np.arange(6)}, errors)["x"], [1, 3])


def test_measures_of_models_whose_values_are_known():
    """One whose q is the exact posterior given 3 numbers, and one without any information in c."""
    runs = Runs(tiny_study(known=(laws.SIGMA,)), sizes=(3, 3), restarts=1)
    informed, blind = exact_gaussian(3), exact_gaussian(0)
    blind["decoder"]["Dense_0"]["kernel"] *= 0
    found = runs.measure(jax.tree.map(lambda *x: jnp.stack(x), informed, blind))
    assert set(found) == set(MEASURES) and all(value.shape == (2, 100) for value in found.values())
    x = runs.test_data.images.reshape(100, 100).astype(np.float64)
    assert (found["error"][1] == 0.5).all() and (np.abs(found["kl"][1]) < 1e-5).all()
    plain = -stats.norm.logpdf(x, 0, laws.SIGMA)
    np.testing.assert_allclose(found["joint_nll"][1], plain.mean(1), rtol=1e-3)
    # E KL(q || p) = log(scale of p / q) as D varies over the prior; nll: sigma^2 + variances of c and of its estimate.
    variance = 1 / (1 + 3 / laws.SIGMA**2)
    kl, nll = -0.5 * np.log(variance), 0.5 * np.log(2 * np.pi * laws.SIGMA**2)
    nll += 0.5 * (laws.SIGMA**2 + 2 * variance) / laws.SIGMA**2
    for name, expected in (("kl", kl), ("nll", nll)):
        error = found[name][0].std() / 10
        assert abs(found[name][0].mean() - expected) < 5 * error, (name, found[name][0].mean(), expected, error)
    exact = -laws.exact_log_likelihood("gaussian", x) / 100
    np.testing.assert_allclose(found["joint_nll"][0].mean(), exact.mean(), atol=0.01)
    own, other = np.abs(x[:, :20] - x.mean(1, keepdims=True)), np.abs(x[:, None, :20] - x.mean(1)[None, :, None])
    ideal = (other < own[:, None]).mean()  # by the classes' own means
    assert ideal - 0.01 < found["error"][0].mean() < ideal + 0.05


def test_the_command_writes_results_table_and_figure(tmp_path, capsys, monkeypatch):
    trained = jax.tree.map(lambda *x: jnp.stack(x), exact_gaussian(1), exact_gaussian(2)), np.ones((2, 1))
    monkeypatch.setattr(Runs, "train", lambda self: trained)
    args = study.parse(["--out", str(tmp_path / "out"), "--sizes", "1", "2", "--restarts", "1"])
    small = tiny_study(objective="ns", largest=2, known=(laws.SIGMA,))
    records, found = study.study(small, args.sizes, args.restarts)
    better = {name: values + (0.1 if name == "kl" else -0.1) for name, values in found.items()}
    compared = [*study.claims({"ns": found, "vhe": better}, "gaussian", args.sizes)]
    assert len(compared) == 2 * len(study.CLAIMED) and all(record["holds"] for record in compared)
    assert not any(r["holds"] for r in study.claims({"ns": better, "vhe": found}, "gaussian", args.sizes))
    records += [study.exact(small), *compared]
    study.write(records, args, 1.0)
    found = json.loads((args.out / "results.json").read_text())
    assert (
        found["records"] == records
        and found["conditions"]["importance_samples"] == 200
        and "commit" in found["machine"]
    )
    differences = {f"{name}_difference" for name in study.CLAIMED}
    assert {r["name"] for r in records} == {"training_error", *MEASURES, *differences}
    table = (args.out / "table.md").read_text()
    assert "gaussian" in table and "exact" in table and "hold in 8 of 8 cells" in table
    lines = [line.replace("\\|", "") for line in table.splitlines()]
    assert [line.count("|") for line in lines] == [6] * (3 + len(MEASURES)) + [0] * 3 + [5] * (2 + len(study.CLAIMED))
    assert (args.out / "figure.png").read_bytes()[:4] == b"\x89PNG"
    assert "gaussian ns: trained" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["--sizes", "0"], ["--sizes", "81"], ["--restarts", "0"], ["--families", "normal"]])
def test_the_command_refuses_what_makes_no_sense(wrong, capsys):
    with pytest.raises(SystemExit):
        study.parse(["--out", "x", *wrong])
    assert wrong[0] in capsys.readouterr().err
