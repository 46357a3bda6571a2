"""Bypassed context layers: traced choices are the plan's sources, and every layer off is known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import tiny_config

from hfsgm_jax import objectives, sampling
from hfsgm_jax.evaluation import Evaluation, NotApplicable, context_bypass
from hfsgm_jax.evaluation.context_bypass import Curves, bypassed_terms
from hfsgm_jax.trace import IMAGE, SET, SOURCES, Plan, Sets

POSTERIOR, PRIOR, SKIP = range(3)
CHOICES = ((POSTERIOR, POSTERIOR), (POSTERIOR, PRIOR), (SKIP, POSTERIOR), (PRIOR, SKIP))


@pytest.fixture(scope="module")
def row():
    images = jax.random.bernoulli(jax.random.key(3), 0.3, (3, 28, 28, 1)).astype(jnp.float32)
    return jax.tree.map(lambda x: x[0], Sets.of(images[None]))


@pytest.fixture(scope="module")
def results(tiny, row):
    run = jax.jit(lambda row, key: bypassed_terms(*sampling.bind(*tiny), row, key, labels=LABELS, choices=CHOICES))
    return run(row, jax.random.key(1))


LABELS = ("c2", "c1")


def test_curves_of_figure_7():
    curves = Curves.of((1, 4, 4, 8))  # c4 c3 c2 c1
    assert curves.lowest_first == ((), (3,), (2, 3), (1, 2, 3), (0, 1, 2, 3))
    assert curves.highest_first == ((), (0,), (0, 1), (0, 1, 2), (0, 1, 2, 3))
    assert curves.coarsest == ((), (3,), (1, 2, 3), (0, 1, 2, 3))
    assert curves.alone == ((0,), (1, 2), (3,))
    assert len(curves.distinct()) == 9 and curves.distinct()[0] == ()
    vectors = Curves.of((None, None))
    assert vectors.coarsest == vectors.alone == ()


@pytest.mark.parametrize("index", range(len(CHOICES)))
def test_a_traced_choice_is_the_static_plan(tiny, row, results, index):
    """Same noise, same sources: the same bound from one program of all choices as from a plan of its own."""
    plan = Plan(sources=tuple((SET, int(label[1]), SOURCES[s]) for label, s in zip(LABELS, CHOICES[index])))
    apply, _ = sampling.bind(*tiny)
    sets = jax.tree.map(lambda x: x[None], row)
    terms = jax.jit(lambda key: objectives.terms(apply(sets, plan, key), sets))(jax.random.key(1))
    np.testing.assert_allclose(results["log_px"][index], terms.log_px.sum(), rtol=1e-4)
    np.testing.assert_allclose(results["kl_c"][index], sum(x.sum() for x in terms.kl_c), rtol=1e-4)
    np.testing.assert_allclose(results["kl_z"][index], sum(x.sum() for x in terms.kl_z), rtol=1e-4)


def test_what_is_bypassed_costs_nothing(results):
    kl_c = results["kl_c"]
    assert kl_c[0] > kl_c[1] > 0 and kl_c[2] > 0
    assert kl_c[3] == 0


def test_rows_choose_for_themselves(tiny, row):
    """In one batch one row skips c2 and the other does not."""
    model, variables = tiny
    sets = jax.tree.map(lambda x: jnp.stack([x, x]), row)
    choice = {"c2": jnp.array([SKIP, POSTERIOR])}

    @jax.jit
    def run(key):
        return model.apply(variables, sets, Plan(), row_sources=choice, rngs={"sample": key})

    latent = run(jax.random.key(0))["c2"]
    np.testing.assert_array_equal(latent.value[0], 0)
    np.testing.assert_array_equal(latent.informed[:, 0], [False, True])
    assert (latent.value[1] != 0).any()


@pytest.mark.parametrize("plan", [Plan(), Plan(sources=((SET, 2, "prior"),))])
def test_choices_of_what_the_plan_does_not_draw_are_refused(tiny, row, plan):
    sets = jax.tree.map(lambda x: x[None], row)
    label = "c2" if plan.sources else "c9"
    with pytest.raises(ValueError, match=f"row_sources of {label}: the plan draws"):
        jax.eval_shape(
            lambda: sampling.bind(*tiny)[0](sets, plan, jax.random.key(0), row_sources={label: jnp.zeros(1)})
        )


def test_records_and_picture(tiny, tmp_path):
    config = tiny_config()
    config.data.cache_dir = str(tmp_path)
    evaluation = Evaluation(tmp_path / "run", config, *tiny, step=2)
    context_bypass.check(evaluation)
    found = list(context_bypass.context_bypass(evaluation))
    assert [name for name, _ in found] == ["nelbo"] * 7 + ["figure"]
    records = {(r["bypass"], r["bypassed"]): r for _, r in found[:-1]}
    assert set(records) == {("none", "none")} | {(w, b) for w in ("prior", "skip") for b in ("c1", "c1-c2", "c2")}
    full = records["none", "none"]
    for (way, off), record in records.items():
        parts = record["parts"]
        assert record["bound"] == (way != "skip") and record["standard_error"] > 0
        np.testing.assert_allclose(record["value"], parts["kl_z"] + parts["kl_c"] - parts["log_px"], rtol=1e-6)
        if off != "none":
            np.testing.assert_allclose(parts["relative"], record["value"] / full["value"])
            np.testing.assert_allclose(parts["increase"], record["value"] - full["value"], rtol=1e-4)
    assert records["prior", "c1-c2"]["parts"]["kl_c"] == 0
    assert records["skip", "c1"]["active_resolutions"] == "1"
    assert records["skip", "c1-c2"]["active_layers"] == 0
    (picture,) = found[-1][1]["pictures"]
    assert (tmp_path / "run" / picture).stat().st_size > 10_000


def test_a_vae_has_nothing_to_bypass(tiny_vae, tmp_path):
    config, model, variables = tiny_vae
    assert all(node.plate == IMAGE for node in model.nodes)
    with pytest.raises(NotApplicable, match="context_bypass is about latents that a set shares, and .*'vae' has none"):
        context_bypass.check(Evaluation(tmp_path, config, model, variables, 2))
