"""The tightened bound of the Variational Homoencoder (VHE eq. 21): which images made the context, guessed from c.

The bound of the VHE treats the context D as auxiliary: drawn by q'(D; X), n images of the class with replacement, and
explained by r(D; c, X). With r learned instead of uniform the bound on log p(X) rises by E[log r - log q'], per image

    log p(x | c) + 1/|X| log [ p(c) r(D; c, X) / (q'(D; X) q(c; D)) ],

where the paper prints a minus before 1/|X|, which would reward a large KL. Here r = prod_i softmax over d in X
of f(c) . xi_d, with a linear f and an embedding xi of every training image: it needs the members of training classes,
so it serves training alone.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from hfsgm_jax.trace import SET, Sets, Trace

Params = dict[str, jax.Array]


EMBEDDING = 32  # numbers per training image


def init(key: jax.Array, model: Any, labels: Any, sizes: Any) -> Params:
    """Parameters with which r is uniform, and so the bound the VHE's own.

    Args:
      labels, sizes: ``[classes]`` class ids, and images of each class.
    """
    latent_size = sum(math.prod(node.event_shape) for node in model.nodes if node.plate == SET)
    projection = jax.random.normal(key, (latent_size, EMBEDDING)) / latent_size**0.5
    return {"embedding": jnp.zeros((int(max(labels)) + 1, int(max(sizes)), EMBEDDING)), "projection": projection}


def gain(params: Params, trace: Trace, sets: Sets) -> jax.Array:
    """``[B]`` log r(D; c, X) - log q'(D; X), nats of the whole class; 0 where r is uniform.

    Args:
      params: see `init`.
      trace: of contexts drawn with replacement.
      sets: of `data.sample_sets`, or ``Sets.of(label=..., class_size=...).replace(member=...)``: which classes, how
        large, and which of a class's images the slots hold.
    """
    values = [latent.value[:, 0].reshape(sets.num_rows, -1) for latent in trace.on(SET)]
    seen = jnp.concatenate(values, -1).astype(jnp.float32) @ params["projection"]
    scores = jnp.einsum("be,bme->bm", seen, params["embedding"][sets.ids[SET]])
    in_class = jnp.arange(scores.shape[1]) < sets.size_of(SET)[:, None]
    log_r = jax.nn.log_softmax(jnp.where(in_class, scores, -jnp.inf), -1)
    context = sets.context_of(SET)
    chosen = jnp.take_along_axis(log_r, jnp.where(context, sets.member, 0), 1)
    return jnp.where(context, chosen + jnp.log(sets.size_of(SET))[:, None], 0.0).sum(1)
