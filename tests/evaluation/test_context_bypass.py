"""Bypassed context layers: traced choices are the plan's sources, and every layer off is known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_evaluation import is_picture, results_of

from hfsgm_jax import objectives, sampling
from hfsgm_jax.errors import NotApplicable
from hfsgm_jax.evaluation.context_bypass import bypassed_terms, context_bypass, curves_of
from hfsgm_jax.trace import SET, Plan

LABELS = ("c2", "c1")
# As `context_bypass` takes them, so that there is one program.
CASES = ("none", 2), ("prior", 1), ("prior", 0), ("skip", 1), ("skip", 0)


@pytest.fixture(scope="module")
def results(tiny_run):
    return tiny_run.each("bypass", bypassed_terms, tiny_run.sets, labels=LABELS, cases=CASES)


def test_curves_of_figure_7():
    curves = curves_of([1, 4, 4, 8])  # c4 c3 c2 c1
    assert list(curves.values()) == [[4, 3, 2, 1, 0], [4, 3, 1, 0]]
    assert list(curves_of([None, None])) == ["lowest layers"]


@pytest.mark.parametrize("index", [1, 3])
def test_a_traced_case_is_the_static_plan(tiny_run, results, index):
    """Same noise, same sources: the same bound from one program of all cases as from a plan of its own."""
    plan = Plan(sources=((SET, 1, CASES[index][0]),))
    apply, _ = sampling.bind(tiny_run.model, tiny_run.variables)
    sets = jax.tree.map(lambda x: jnp.asarray(x[:1]), tiny_run.sets)
    key = jax.random.fold_in(jax.random.key(0), 0)
    terms = jax.jit(lambda key: objectives.set_terms(apply(sets, plan, key), sets))(key)
    for name, value in terms.items():
        np.testing.assert_allclose(results[name][0, index], value[0], rtol=1e-4)


def test_what_is_bypassed_costs_nothing(results):
    kl_c = results["kl_c"]
    assert (kl_c[:, [0, 1, 3]] > 0).all()
    assert (kl_c[:, [2, 4]] == 0).all()


def test_records_and_picture(tiny_run):
    *found, figure = results_of(tiny_run, context_bypass)
    assert is_picture(tiny_run, figure)
    records = {(r["bypass"], r["bypassed"]): r for r in found}
    assert set(records) == {("none", "none")} | {(w, b) for w in ("prior", "skip") for b in ("c1", "c1-c2")}
    full = records["none", "none"]
    for (way, off), record in records.items():
        parts = record["parts"]
        assert record["bound"] == (way != "skip") and record["standard_error"] > 0
        np.testing.assert_allclose(record["value"], parts["kl_z"] + parts["kl_c"] - parts["log_px"], rtol=1e-6)
        if off != "none":
            np.testing.assert_allclose(parts["relative"], record["value"] / full["value"])
            np.testing.assert_allclose(parts["increase"], record["value"] - full["value"], rtol=1e-4)
            assert 0 < parts["increase_error"] < record["standard_error"] or way == "skip"
    assert records["prior", "c1-c2"]["parts"]["kl_c"] == 0


def test_a_vae_has_nothing_to_bypass(vae_run):
    with pytest.raises(NotApplicable, match="context_bypass is about latents that a set shares, and .*'vae' has none"):
        next(context_bypass(vae_run))
