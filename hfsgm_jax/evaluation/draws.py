"""Every kind of sample of one set, in one program: compiling traversals takes longer than running them."""

from typing import Any

import jax
import jax.numpy as jnp

from hfsgm_jax import sampling
from hfsgm_jax.trace import PLATES, Plan, Sets

NEW = "conditional", "one_pass", "refined"  # kinds of new images of the context's class


def draw_set(
    apply: Any,
    encode: Any,
    row: Sets,
    key: jax.Array,
    *,
    num: int,
    chains: int,
    shown: int,
    num_iterations: int,
    temperature: float = 1.0,
    films: int = 0,
) -> dict[str, jax.Array]:
    """Samples of all kinds from one context.

    Args:
      apply, encode, row, key: see `Evaluation.each`; the row is a context of N images.
      num: new images from one traversal (``conditional``, ``one_pass``).
      chains: refined images, at most ``num``: each costs ``num_iterations`` traversals of N + 1 images.
      shown: how many of each kind are also returned as means.
      temperature: factor on the noise of all latents.
      films: of how many chains all iterations are returned.

    Returns:
      uint8 images, 0..255. Means: ``reconstruction`` ``[N, H, W, C]``; ``conditional``, ``one_pass``
      ``[shown, H, W, C]``, ``refined`` (from the conditional draws on) ``[min(chains, shown), H, W, C]``,
      ``unconditional`` ``[shown, H, W, C]`` of one imagined class; ``film`` ``[films, num_iterations + 1, H, W, C]``,
      from the conditional sample on. Draws: ``conditional_draws``, ``one_pass_draws``, ``refined_draws``, all of
      them. A model without context has ``reconstruction`` and ``unconditional`` only.
    """
    sets = jax.tree.map(lambda x: x[None], row)
    plates = dict.fromkeys(PLATES, temperature)
    keys = jax.random.split(key, 4)
    # Reconstruction and conditional sampling are one traversal: both decode from the same latents.
    trace = apply(sets.with_unobserved(num), Plan(), keys[0], temperature=plates)
    n, shape = sets.num_slots, sets.images.shape[2:]
    mean, drawn = sampling.mean_and_draw(trace.px, keys[1])
    out = {"reconstruction": mean[:, :n]}
    if not sampling.has_context(trace):
        out["unconditional"] = sampling.unconditional(apply, 1, shown, shape, keys[2], temperature=plates)
    else:
        both = dict(temperature=plates, draw="both")
        mean, drawn = mean[:, n:], drawn[:, n:]
        chain = dict(num_iterations=num_iterations, encode=encode, start=drawn[:, :chains], trajectory=True)
        steps = sampling.refine(apply, sets, chains, keys[3], **chain, **both)
        # So are these two: the second row has no context, and draws all from the prior.
        means, draws = sampling.one_pass(apply, _and_no_context(sets), num, keys[2], **both)
        new = (mean, drawn), (means[:1], draws[:1]), [images[:, :, -1] for images in steps]
        for kind, (means_of_kind, draws_of_kind) in zip(NEW, new, strict=True):
            out |= {kind: means_of_kind[:, :shown], f"{kind}_draws": draws_of_kind}
        out["unconditional"] = means[1:, :shown]
        if films:
            out["film"] = jnp.concatenate([mean[:, :films, None], steps[0][:, :films]], 2)
    # Bytes: what is kept of an unfinished evaluation, and of every class, stays small.
    return {name: jnp.round(255 * jnp.clip(x[0], 0, 1)).astype(jnp.uint8) for name, x in out.items()}


def _and_no_context(sets: Sets) -> Sets:
    """One row, and a second one of which nothing is observed."""
    two = jax.tree.map(lambda x: jnp.concatenate([x, x]), sets)
    first = jnp.array([[True], [False]])
    return two.replace(
        observed=two.observed & first,
        target=two.target & first,
        context={plate: mask & first for plate, mask in two.context.items()},
    )
