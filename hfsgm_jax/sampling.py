"""Every way to draw images, as plain functions of traces.

They are handed ``apply(sets, plan, key, given=None, features=None, temperature=None) -> Trace`` and
``encode(sets) -> features``, whose leaves are ``[B, N, ...]`` (`bind` makes both of a module and its variables), and
know nothing else of a model: what differs between samplers is where each latent takes its value from. All are pure and
can be jitted, with counts static. They return a pair: the means of p(x | latents), and draws from it, of the same
images.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax.errors import ScopeParamNotFoundError, ScopeParamShapeError

from hfsgm_jax.errors import CheckpointError
from hfsgm_jax.trace import PRIOR, Apply, Encode, Plan, Sets, Trace, pad_slots

Temperature = Mapping[str, jax.Array | float] | None
Images = tuple[jax.Array, jax.Array]  # means and draws


def bind(model: Any, variables: Any, temperature: Temperature = None) -> tuple[Apply, Encode]:
    """``apply`` and ``encode`` of a Flax module (in inference mode) with its variables.

    They raise a CheckpointError where the variables are another model's.

    Args:
      temperature: plate -> factor of the standard deviation of its latents' noise (1: as trained, 0: means), for calls
        that name none; plates it does not name keep 1.
    """

    def call(*args, **kwargs):
        try:
            return model.apply(variables, *args, **kwargs)
        except (ScopeParamShapeError, ScopeParamNotFoundError) as error:
            raise CheckpointError(f"the variables are not of the model that the config says: {error}") from error

    def apply(sets, plan, key, given=None, features=None, temperature=temperature):
        return call(sets, plan, given, features, temperature, rngs={"sample": key})

    return apply, functools.partial(call, method="encode")


def blank_sets(num_rows: int, num: int, image_shape: tuple[int, int, int]) -> Sets:
    """Rows of ``num`` slots to generate and no image."""
    nothing = jnp.zeros((num_rows, num), bool)
    return Sets.of(jnp.zeros((num_rows, num, *image_shape)), nothing, present=~nothing)


def conditional(apply: Apply, encode: Encode, sets: Sets, num: int, key: jax.Array, *, chunk: int = 64) -> Images:
    """New images of every row's class: shared latents from their posterior given the context.

    The latents of the new images come from their prior, in the same traversal as the posterior of
    the context's own. All images of a row share one draw of the shared latents. A row without
    context draws from the prior.

    Args:
      sets: the contexts, of any (also ragged) size.
      num: new images per row.
      chunk: new images decoded at once; bounds the memory, and changes nothing but pixel draws.

    Returns:
      ``[B, num, H, W, C]``, means and draws.
    """
    chunk = min(chunk, num)
    plan = Plan(decode="unobserved", num_decoded=chunk)
    # What an unobserved slot's features hold is never used.
    features = jax.tree.map(lambda x: pad_slots(x, chunk), encode(sets))
    return _last_slots(apply, sets.with_unobserved(chunk), plan, key, num, chunk, features=features)


def one_pass(apply: Apply, encode: Encode, sets: Sets, num: int, key: jax.Array, *, chunk: int = 64) -> Images:
    """The paper's eq. 6: c_L from q(c_L | X), all below it from the prior: ``[B, num, H, W, C]``.

    The images of a row share their c; where the prior of c sees images (eq. 3), c_L alone, and the number of images
    that are drawn changes none of them.
    Arguments as `conditional`.
    """
    chunk = min(chunk, num)
    context_key, key = jax.random.split(key)
    context = apply(sets, Plan(), context_key, features=encode(sets))
    given, shape = _top_shared(context), sets.images.shape[2:]
    if context.prior_sees_images:
        return _one_by_one(apply, given, sets.num_rows, num, shape, key, chunk)
    return _last_slots(apply, blank_sets(sets.num_rows, chunk, shape), PRIOR, key, num, chunk, given=given)


def _last_slots(apply, sets, plan, key, num, chunk, **known) -> Images:
    """``[B, num, H, W, C]``, new images of each row, of which the last ``chunk`` slots hold as many at a time."""
    trace_key, pixel_key = jax.random.split(key)
    is_new = jnp.arange(sets.num_slots) >= sets.num_slots - chunk

    def part(index):
        shifted = sets.replace(slots=sets.slots + is_new * index * chunk)
        trace = apply(shifted, plan, trace_key, **known)
        if not trace.shared:
            raise ValueError("this model has no latent shared by a set: it cannot be conditioned on images")
        return mean_and_draw(trace.px, jax.random.fold_in(pixel_key, index))

    images = jax.lax.map(part, jnp.arange(-(-num // chunk)))  # [parts, B, chunk, H, W, C]
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *x.shape[3:])[:, :num], images)


def _top_shared(trace: Trace) -> dict[str, jax.Array]:
    """Label -> value of the top latent of every shared plate."""
    plates = dict.fromkeys(latent.plate for latent in trace.shared)
    return {top.label: top.value for top in (trace.on(plate)[0] for plate in plates)}


def _one_by_one(apply, given, num_rows, num, image_shape, key, chunk) -> Images:
    """``[B, num, H, W, C]``, all but ``given`` from the prior, each image in a traversal of its own."""
    new = blank_sets(num_rows, 1, image_shape)

    def one(number):
        trace_key, pixel_key = jax.random.split(jax.random.fold_in(key, number))
        trace = apply(new, PRIOR, trace_key, given=given)
        return mean_and_draw(trace.px, pixel_key)

    images = _in_chunks(one, num, chunk)  # [num, B, 1, H, W, C]
    return jax.tree.map(lambda x: jnp.moveaxis(x[:, :, 0], 0, 1), images)


def _in_chunks(one: Callable[[jax.Array], Any], num: int, chunk: int) -> Any:
    """``one(0) ... one(num - 1)``, ``chunk`` at a time; whole chunks, as a part of one would be a second program."""
    numbers = jnp.minimum(jnp.arange(-(-num // chunk) * chunk), num - 1)
    return jax.tree.map(lambda x: x[:num], jax.lax.map(one, numbers, batch_size=min(chunk, num)))


def refine(
    apply: Apply,
    encode: Encode,
    sets: Sets,
    num: int,
    key: jax.Array,
    *,
    num_iterations: int = 10,
    start: jax.Array | None = None,
    chunk: int = 64,
) -> Images:
    """Refined samples (Algorithms 1 and 3): a Markov chain [X, x_m] for every new image.

    Each iteration draws all latents from their posterior given the context and the image itself,
    and redraws the image. What is fed back is a draw, never grey means, so that the encoder sees
    what it was trained on.

    Args:
      sets: the contexts. Chains do not see each other.
      start: ``[B, num, H, W, C]`` images the chains start from, `one_pass` draws in Algorithm 1; default:
        `conditional` draws, which are of the class also where c_L says little.
      chunk: chains per row that run at once; bounds the memory.

    Returns:
      ``[B, num, num_iterations, H, W, C]``, means and draws of every iteration.
    """
    start_key, chain_key = jax.random.split(key)
    if start is None:
        _, start = conditional(apply, encode, sets, num, start_key, chunk=chunk)
    context, plan = encode(sets), Plan(decode="target", num_decoded=1)
    sets = sets.replace(target=jnp.zeros_like(sets.target))  # the new image alone is decoded

    def step(x, step_key):
        trace_key, pixel_key = jax.random.split(step_key)
        features = jax.tree.map(lambda *both: jnp.concatenate(both, 1), context, encode(Sets.of(x)))
        trace = apply(sets.with_observed(x), plan, trace_key, features=features)
        mean, drawn = mean_and_draw(trace.px, pixel_key)
        return drawn, (mean, drawn)

    def chain(index):
        keys = jax.random.split(jax.random.fold_in(chain_key, index), num_iterations)
        return jax.lax.scan(step, start[:, index, None], keys)[1]  # [num_iterations, B, 1, H, W, C]

    images = _in_chunks(chain, num, chunk)  # [num, num_iterations, B, 1, H, W, C]
    return jax.tree.map(lambda x: jnp.moveaxis(x[:, :, :, 0], 2, 0), images)


def unconditional(apply: Apply, num_rows: int, num: int, image_shape: tuple[int, int, int], key: jax.Array) -> Images:
    """``num_rows`` imagined classes with ``num`` images each, all from the prior: ``[B, num, H, W, C]``.

    The images of a class share latents as those of `one_pass` do.
    """
    trace_key, pixel_key = jax.random.split(key)
    trace = apply(blank_sets(num_rows, num, image_shape), PRIOR, trace_key)
    if trace.prior_sees_images:
        return _one_by_one(apply, _top_shared(trace), num_rows, num, image_shape, pixel_key, num)
    return mean_and_draw(trace.px, pixel_key)


def mean_and_draw(px: Any, key: jax.Array) -> Images:
    """The means of the pixels and a draw; of autoregressive pixels, the means given those of the draw before each."""
    return px.mean_and_draw(key) if hasattr(px, "mean_and_draw") else (px.mean(), px.sample(key))


CONDITIONAL = {"conditional": conditional, "one_pass": one_pass, "refined": refine}  # samplers of a context's class
