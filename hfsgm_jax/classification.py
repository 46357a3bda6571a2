"""Few-shot classification by a generative model of sets: which class's images make a query likelier?

An episode is Y classes, each a support set X_y, and Q queries x. Every classifier gives a score
``[Q, Y]`` and names the class of the highest. They are free functions of traces, handed ``apply`` and
``encode`` as the samplers are, and serve every model with latents c that a set shares:

  elbo_difference  ELBO([x, X_y]) - ELBO(X_y), nats of whole sets (SCHA-VAE)
  mean_log         mean over c ~ q(c | X_y) of log p(x | c), nats (SCHA-VAE)
  log_mean         log of the mean over c ~ q(c | X_y) of p(x | c), nats (VHE, section 4)
  kl, kl_all       -KL(q(c | X_y) || q(c | x)) of the lowest layer of c, or summed over all layers, nats; each set
                   under its own ancestors, without noise (NS)

p(x | c) is estimated by importance sampling of z ~ q(z | x, c). Every class draws its own noise, which serves all
queries. (One noise for all classes would hide a c that says nothing: whatever little the posteriors differ by decides.)

Where the prior of c sees the latents of images (`Trace.prior_sees_images`, the paper's eq. 3),
p(x | c) is the product of p(z_l | z_{l+1}, c_l) and p(x | z, c) at a fixed c: what the paper computes,
but no density of x given X_y under the model, since the prior of c would answer to x as well; and
the bounds of elbo_difference belong to two models that do not agree on X_y. Such scores still rank classes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from hfsgm_jax import objectives
from hfsgm_jax.distributions import kl
from hfsgm_jax.errors import NotApplicable
from hfsgm_jax.trace import SET, STILL, STYLE, Apply, Encode, Latent, Plan, Sets, Trace, as_batch

BY_LIKELIHOOD = ("mean_log", "log_mean")
BY_DIVERGENCE = ("kl", "kl_all")
CLASSIFIERS = ("elbo_difference", *BY_LIKELIHOOD, *BY_DIVERGENCE)


def check_styles(model: Any) -> None:
    """Raises NotApplicable for a model whose images share a style too: that of a query is not that of the support."""
    if STYLE in {node.plate for node in model.shared_nodes}:
        raise NotApplicable("few-shot classification is by the latents of a class alone, and this model has styles too")


def scores(
    apply: Apply,
    encode: Encode,
    supports: Sets,
    queries: jax.Array,
    key: jax.Array,
    *,
    classifiers: Sequence[str] = CLASSIFIERS,
    num_samples: int = 20,
    num_samples_z: int = 10,
    shared_noise: bool = False,
    chunk: int = 512,
) -> dict[str, jax.Array]:
    """The score of every class for every query, by each classifier.

    Every image is encoded once. Samples follow one another in a scan, so that memory grows neither
    with their number nor, beyond ``chunk``, with that of queries. Pure; can be jitted and vmapped.

    Args:
      supports: the support sets, a class per row, of any (also ragged) size; every image is context
        and target.
      queries: ``[Q, H, W, C]`` in [0, 1].
      classifiers: which of `CLASSIFIERS`. mean_log and log_mean together cost as much as one.
      num_samples: samples of c (and of z for elbo_difference, which averages as many differences).
      num_samples_z: importance samples of z for each of c.
      shared_noise: the same noise for all classes.
      chunk: images decoded at once, at least one per class; changes nothing but memory and speed.

    Returns:
      classifier -> ``[Q, Y]`` float32.

    Raises:
      ValueError: the model has no latent that a set shares.
    """
    query = queries, jax.tree.map(lambda x: x[0], encode(Sets.of(queries[None])))
    features = encode(supports)
    out = {}
    sampled = tuple(name for name in classifiers if name not in BY_DIVERGENCE)
    if sampled:
        at_once = max(1, chunk // supports.num_rows)

        def of_class(row, row_features, key):
            row, row_features = as_batch((row, row_features))
            draw = lambda key: _draw(apply, row, row_features, query, key, sampled, num_samples_z, at_once)
            values = jax.lax.map(lambda index: draw(jax.random.fold_in(key, index)), jnp.arange(num_samples))
            return {name: jax.nn.logmeanexp(x, 0) if name == "log_mean" else x.mean(0) for name, x in values.items()}

        number = jnp.arange(supports.num_rows) * (not shared_noise)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, number)
        out = jax.vmap(of_class, out_axes=1)(supports, features, keys)
    if set(classifiers) & set(BY_DIVERGENCE):
        out |= _kl_scores(apply, supports, features, query)
    return {name: out[name] for name in classifiers}


def set_elbo(trace: Trace, sets: Sets) -> jax.Array:
    """``[B]`` ELBO of whole sets, nats: analytic KL, log p(x | latents) of one draw."""
    return -objectives.set_terms(trace, sets)["nelbo"]


def posterior_kl(of: Latent, to: Latent) -> jax.Array:
    """KL(q(c | X_y) || q(c | x)) of every pair of rows: ``[rows of to, rows of of]``, nats."""
    values = kl(jax.tree.map(lambda x: x[None], of.posterior), jax.tree.map(lambda x: x[:, None], to.posterior))
    return values.sum(tuple(range(2, values.ndim)))


def _draw(apply, row, features, query, key, names, num_samples_z, chunk) -> dict[str, jax.Array]:
    """One sample of c given one support set: its contribution ``[Q]`` to every classifier."""
    c_key, z_key = jax.random.split(key)
    trace = apply(row, Plan(), c_key, features=features)
    given = {latent.label: latent.value for latent in _shared(trace)}
    out = {}
    if set(names) & set(BY_LIKELIHOOD):

        def log_likelihood(x, x_features):  # log p(x | c), by importance samples of z ~ q(z | x, c)
            sets = Sets.of(x, context=jnp.zeros(x.shape[:2], bool))
            return objectives.image_bounds(apply, sets, given, z_key, num_samples_z, features=x_features, chunk=1)[0, 0]

        value = _for_each(log_likelihood, query, chunk)
        out = {name: value for name in names if name in BY_LIKELIHOOD}
    if "elbo_difference" in names:

        def elbo(x, x_features):  # the support set keeps its noise, so that most of it cancels in the difference
            sets = row.with_observed(x)
            wide = jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), features, x_features)
            return set_elbo(apply(sets, Plan(), c_key, features=wide), sets)[0]

        with_query = _for_each(elbo, query, max(1, chunk // (row.num_slots + 1)))
        out["elbo_difference"] = with_query - set_elbo(trace, row)
    return out


def _for_each(f: Callable[..., jax.Array], query: Any, size: int) -> jax.Array:
    """``f`` of every query as a row of one slot, ``[Q]``; about ``size`` of them at once."""
    total = len(query[0])
    size = -(-total // -(-total // size))  # as even as can be
    return jax.lax.map(lambda one: f(*jax.tree.map(lambda x: x[None, None], one)), query, batch_size=size)


def _kl_scores(apply, supports, features, query) -> dict[str, jax.Array]:
    images, query_features = jax.tree.map(lambda x: x[:, None], query)
    key = jax.random.key(0)  # of no effect at temperature 0
    of = _shared(apply(supports, Plan(), key, features=features, temperature=STILL))
    to = _shared(apply(Sets.of(images), Plan(), key, features=query_features, temperature=STILL))
    lowest = max(i for i, latent in enumerate(of) if latent.plate == SET)
    found = [posterior_kl(*pair) for pair in zip(of, to, strict=True)]
    return {"kl": -found[lowest], "kl_all": -sum(found)}


def _shared(trace: Trace) -> tuple[Latent, ...]:
    if not trace.shared:
        raise ValueError("this model has no latent shared by a set: it cannot tell classes apart by their images")
    return trace.shared
