"""Validation while training: the plain ELBO of fixed sets, with fixed noise."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from hfsgm_jax import mesh as mesh_lib
from hfsgm_jax import objectives
from hfsgm_jax.trace import Plan
from hfsgm_jax.training.step import to_sets


def make_validation(
    model: Any, config: ConfigDict, batch: Any, mesh: Mesh
) -> Callable[[dict[str, Any]], dict[str, float]]:
    """``variables -> {"val/nelbo": nats per image, ...}`` on fixed sets.

    ``val/nelbo`` and its parts are those of the ELBO with context = target and alpha = 0, whatever
    the objective; ``val/objective`` weights the same terms as the objective does, at alpha = 0 (its targets are the
    context here, and a tightened bound's gain is left out).

    Args:
      batch: numpy Batch with rows ``[sets, N, ...]``; evaluated ``eval.sets_per_batch`` rows at a time,
        rounded up to a multiple of the devices.
    """
    chunks = _chunks(batch, -(-config.eval.sets_per_batch // mesh.size) * mesh.size)
    chunks = [jax.device_put(chunk, mesh_lib.by_rows(mesh)) for chunk in chunks]
    key = jax.random.fold_in(jax.random.key(config.eval.seed), 1)
    plain = dict(alpha=0.0, kl_weight=1.0)

    @jax.jit
    def add_chunk(variables, chunk, index, sums):
        sets = to_sets(chunk)
        trace = model.apply(variables, sets, Plan(train=False), rngs={"sample": jax.random.fold_in(key, index)})
        elbo = objectives.weighted_sums(trace, sets, objective="ns", free_bits=0.0, **plain)
        own = objectives.weighted_sums(
            trace, sets, objective=config.objective.name, free_bits=config.objective.free_bits, **plain
        )
        found = {name: elbo[name] for name in ("nelbo", "log_px", "kl_c", "kl_z", "count")} | {"objective": own["loss"]}
        return jax.tree.map(jnp.add, sums, found)

    def validate(variables: dict[str, Any]) -> dict[str, float]:
        sums = dict.fromkeys(("nelbo", "log_px", "kl_c", "kl_z", "count", "objective"), jnp.float32(0))
        for index, chunk in enumerate(chunks):
            sums = add_chunk(variables, chunk, index, sums)
        sums = jax.device_get(sums)
        count = sums.pop("count")
        return {f"val/{name}": float(value / count) for name, value in sums.items()}

    return validate


def _chunks(batch: Any, rows: int) -> list[Any]:
    """Batches of ``rows`` rows; what the last one lacks are rows without images, which count nothing."""
    total = len(batch.images)
    chunks = []
    for start in range(0, total, rows):
        index = np.arange(start, start + rows)
        chunk = jax.tree.map(lambda x, index=index: np.asarray(x)[np.minimum(index, total - 1)], batch)
        chunks.append(chunk._replace(mask=chunk.mask & (index < total)[:, None]))
    return chunks
