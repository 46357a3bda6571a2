"""Worth of the hierarchy over c: the bound as its layers and resolutions are taken away (SCHA-VAE, figure 7)."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from hfsgm_jax.evaluation import plots
from hfsgm_jax.evaluation.base import Arrays, Evaluation, resolution
from hfsgm_jax.evaluation.likelihood import NELBO, nelbo_of, set_nelbo
from hfsgm_jax.evaluation.records import Record, Records, Result, increase
from hfsgm_jax.trace import SET, Apply, Encode, Sets, Skip, as_batch

Case = tuple[str, int]  # way of bypassing the lower layers, and the number of layers that are left
WAYS = {"prior": "from its prior (a bound)", "skip": "skipped (not a bound)"}


def curves_of(resolutions: list[int | None]) -> dict[str, list[int]]:
    """How many layers are left at each point of each curve, by the resolutions of the set latents, top first.

    The context depth shrinks from below, layer by layer, as in figure 7 left, and, where there are several
    resolutions, one of them after another, so that the coarse context is left, as in figure 7 middle.
    """
    num, sides = len(resolutions), list(dict.fromkeys(resolutions))
    curves = {"lowest layers": [*range(num, -1, -1)]}
    if len(sides) > 1:
        curves["highest resolutions"] = [num, *(resolutions.index(side) for side in reversed(sides))]
    return curves


def bypassed_terms(
    apply: Apply, encode: Encode, row: Sets, key: jax.Array, *, labels: tuple[str, ...], cases: tuple[Case, ...]
) -> Arrays:
    """The NELBO's terms of one set, once per case.

    The images are encoded once and all cases share their noise, so that their differences are
    sharper than their values. Cases are data of one compiled traversal, not a program each.

    Args:
      apply, encode, row, key: see `Evaluation.each`; the set's images are context and target.
      labels: of the set latents, top first.
      cases: one or more; a bypassed latent is skipped, or drawn from its prior (by an empty context of its own).

    Returns:
      The fields of `set_nelbo`: ``[cases]`` float32, nats per set.
    """
    features = encode(as_batch(row))

    def traverse(case):
        skip, left = case
        contexts = {label: row.context[SET] & (skip | (i < left)) for i, label in enumerate(labels)}
        given = {label: Skip((skip & (i >= left))[None]) for i, label in enumerate(labels)}
        return set_nelbo(apply, encode, row.replace(context=row.context | contexts), key, features, given)

    skips, lefts = zip(*((way == "skip", left) for way, left in cases))
    return jax.lax.map(traverse, (jnp.array(skips), jnp.array(lefts)))


def context_bypass(run: Evaluation) -> Records:
    """``nelbo`` with ever fewer of the layers of c, from below, and a ``figure``; z is left as it is.

    A bypassed layer's value comes from its prior (``bypass: prior``: its KL is 0, the result is still a
    bound) or contributes nothing, with its residual and KL (``skip``, ``bound: false``: the bound of
    another model than the one trained). ``parts`` holds the bound's terms, ``relative`` (NELBO over that
    of the full model, the paper's normalisation) and ``increase`` over the full model with the error of that
    difference, which is the smaller for noise and sets being the same.
    """
    run.require_context("context_bypass")
    nodes = [node for node in run.model.shared_nodes if node.plate == SET]
    data, labels, num = run.data_conditions(run.load(), run.sets), tuple(node.label for node in nodes), len(nodes)
    cases = (("none", num), *((way, left) for way in WAYS for left in range(num - 1, -1, -1)))
    static = dict(labels=labels, cases=cases)
    terms = functools.cache(lambda: run.each("context_bypass", bypassed_terms, run.sets, **static))
    results = {}
    for i, (way, left) in enumerate(cases):
        bypassed = "-".join(dict.fromkeys((labels[-1], labels[left]))) if left < num else "none"
        bypass = {"bypassed": bypassed, "bypass": way, "bound": way != "skip"}
        measure = functools.partial(_measure, run, terms, i, results.get(("none", num)))
        results[way, left] = yield Record("nelbo", NELBO | bypass | data, measure)
    curves = curves_of([resolution(node) for node in nodes])
    yield plots.record(run, "context_bypass", data, lambda: draw(results, curves), keep=False)


def _measure(run: Evaluation, terms: Callable[[], dict[str, np.ndarray]], case: int, full: Result | None) -> Result:
    """The bound of one case; ``full``: of the full model, which is case 0."""
    found = {name: values[:, case].astype(np.float64) for name, values in terms().items()}
    found["nelbo"] = found["kl_z"] + found["kl_c"] - found["log_px"]
    result = nelbo_of(found, run.sets)
    more = increase(result, full) | {"relative": result["value"] / full["value"]} if full else {}
    return result | {"parts": result["parts"] | more}


def draw(results: dict[tuple[str, int], Result], curves: dict[str, list[int]]) -> Figure:
    """NELBO relative to the full model along every curve, a panel each.

    Args:
      results: of ``(way, layers left)``; the full model's is the first.
      curves: see `curves_of`.
    """
    page, axes = plots.figure(len(curves), width=4.2, height=4.2, sharey=True)
    full = next(iter(results.values()))
    for axis, (title, curve) in zip(axes, curves.items()):
        for (way, label), style in zip(WAYS.items(), ("o-", "s:")):
            found = [results.get((way, left), full) for left in curve]
            values = [result["value"] / full["value"] for result in found]
            # Of the difference.
            errors = [(result["parts"].get("increase_error") or 0.0) / full["value"] for result in found]
            axis.errorbar(range(len(curve)), values, errors, fmt=style, label=label, capsize=2)
        axis.set_xticks(range(len(curve)), [result["bypassed"] for result in found], rotation=60, fontsize=8)
        axis.set(title=title, xlabel="layers removed", ylabel=f"NELBO / {full['value']:.1f}, that of the full model")
    axes[0].legend(fontsize=8)
    return page
