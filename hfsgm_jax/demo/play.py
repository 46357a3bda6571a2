"""What the page asks of a model, as programs of one shape each, compiled once, before the first drawing.

They are functions for `FewShotModel.compute`; ``sets`` are rows of `SHOTS` slots.
"""

import jax
import jax.numpy as jnp

from hfsgm_jax import sampling
from hfsgm_jax.trace import PRIOR, STILL, Apply, Encode, Plan, Sets

SHOTS = 5  # images of a set, at most
AT_ONCE = 8  # new images of a program; more are several runs of it, each with a draw of the shared latents
STEPS = 9  # from one set to another
ROWS = 3  # of images on the way
ITERATIONS = 8  # of the film of refinement


def conditional(apply: Apply, encode: Encode, sets: Sets, key: jax.Array) -> jax.Array:
    """New images of the class of one set, ``[1, AT_ONCE, H, W, C]``."""
    return sampling.conditional(apply, encode, sets, AT_ONCE, key)[0]


def refined(apply: Apply, encode: Encode, sets: Sets, key: jax.Array) -> jax.Array:
    """A film of new images, a frame per iteration, ``[ITERATIONS + 1, AT_ONCE, H, W, C]``."""
    start_key, key = jax.random.split(key)
    mean, drawn = sampling.conditional(apply, encode, sets, AT_ONCE, start_key)
    frames, _ = sampling.refine(apply, encode, sets, AT_ONCE, key, num_iterations=ITERATIONS, start=drawn)
    return jnp.concatenate([mean, frames[0].swapaxes(0, 1)])


def between(apply: Apply, encode: Encode, sets: Sets, key: jax.Array) -> jax.Array:
    """Images on the way from the latents of one set to those of another, ``[ROWS, STEPS, H, W, C]``."""
    trace = apply(sets, Plan(), key, features=encode(sets), temperature=STILL)
    ends = {latent.label: latent.value for latent in trace.shared}
    blank = sampling.blank_sets(1, ROWS, sets.images.shape[2:])

    def at(t):
        given = {label: (1 - t) * value[:1] + t * value[1:] for label, value in ends.items()}
        return sampling.mean_and_draw(apply(blank, PRIOR, key, given=given).px, key)[0][0]

    return jax.vmap(at, out_axes=1)(jnp.linspace(0, 1, STEPS))


def attention(apply: Apply, encode: Encode, sets: Sets) -> dict[str, jax.Array]:
    """Weights of the images of one set, ``[SHOTS]``, mean of the heads, by layer of c; empty without attention."""
    trace = apply(sets, Plan(), jax.random.key(0), features=encode(sets), temperature=STILL)
    return {x.label: x.weights[0].mean(-1) for x in trace.latents if x.weights is not None}
