"""Validation while training: the plain ELBO of fixed sets and the run's own objective, with fixed noise."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from hfsgm_jax import mesh as mesh_lib
from hfsgm_jax import objectives
from hfsgm_jax.trace import Plan, Sets, Trace
from hfsgm_jax.training.step import to_sets, training_plan

PARTS = ("nelbo", "log_px", "kl_c", "kl_z")
Sums = dict[str, jax.Array]


def make_validation(
    model: Any, config: ConfigDict, batch: Any, mesh: Mesh, drawn: Any = None
) -> Callable[[dict[str, Any]], dict[str, float]]:
    """``variables -> {"val/nelbo": nats per image, ...}`` on fixed sets.

    ``val/nelbo`` and its parts are those of the ELBO with context = target and alpha = 0, whatever the objective.
    ``val/objective`` is the objective at alpha = 0, on sets whose contexts and targets are drawn as in training; a
    tightened bound's gain is left out, which only training classes have. Every row has noise of its own: neither the
    rows evaluated at once nor the devices matter.

    Args:
      batch: numpy Batch with rows ``[sets, N, ...]``; evaluated ``eval.sets_per_batch`` rows at a time,
        rounded up to a multiple of the devices.
      drawn: the Batch of ``val/objective``; None: of ``batch`` every image is context and target of the objective too.
    """
    rows = -(-config.eval.sets_per_batch // mesh.size) * mesh.size
    key = jax.random.fold_in(jax.random.key(config.eval.seed), 1)

    def elbo(trace: Trace, sets: Sets) -> Sums:
        sums = objectives.weighted_sums(trace, sets, objective="ns")
        return {name: sums[name] for name in (*PARTS, "count")}

    def objective(trace: Trace, sets: Sets) -> Sums:
        own = dict(objective=config.objective.name, free_bits=config.objective.free_bits)
        sums = objectives.weighted_sums(trace, sets, **own)
        return {"objective": sums["loss"], "count": sums["count"]}

    def both(trace: Trace, sets: Sets) -> Sums:
        return objective(trace, sets) | elbo(trace, sets)

    measures = [_make_means(model, Plan(), elbo if drawn is not None else both, _chunks(batch, rows), key, mesh)]
    if drawn is not None:
        plan = dataclasses.replace(training_plan(config), train=False)
        measures.append(_make_means(model, plan, objective, _chunks(drawn, rows), key, mesh))

    def validate(variables: dict[str, Any]) -> dict[str, float]:
        found = {name: value for means in measures for name, value in means(variables).items()}
        return {f"val/{name}": found[name] for name in (*PARTS, "objective")}

    return validate


def _make_means(
    model: Any, plan: Plan, measure: Callable[[Trace, Sets], Sums], chunks: list[Any], key: jax.Array, mesh: Mesh
) -> Callable[[dict[str, Any]], dict[str, float]]:
    """``variables -> means per target image`` of what ``measure`` sums up over the targets of one row."""
    chunks = [mesh_lib.place(chunk, mesh_lib.by_rows(mesh)) for chunk in chunks]

    def of_row(variables, row, index):
        sets = to_sets(jax.tree.map(lambda x: x[None], row))
        trace = model.apply(variables, sets, plan, rngs={"sample": jax.random.fold_in(key, index)})
        return measure(trace, sets)

    @functools.partial(jax.jit, out_shardings=mesh_lib.replicated(mesh))
    def of_chunk(variables, chunk):
        batch, index = chunk
        sums = jax.vmap(of_row, (None, 0, 0))(variables, batch, jnp.abs(index))
        return jax.tree.map(lambda x: jnp.where(index >= 0, x, 0).sum(), sums)

    def means(variables: dict[str, Any]) -> dict[str, float]:
        found = [of_chunk(variables, chunk) for chunk in chunks]
        sums = jax.device_get(jax.tree.map(lambda *x: sum(x), *found))
        count = sums.pop("count")
        return {name: float(value / count) for name, value in sums.items()}

    return means


def _chunks(batch: Any, rows: int) -> list[tuple[Any, np.ndarray]]:
    """Batches of ``rows`` rows with the rows' numbers; what the last one lacks are copies with the number -1."""
    total = len(batch.images)
    chunks = []
    for start in range(0, total, rows):
        index = np.arange(start, start + rows)
        chunk = jax.tree.map(lambda x, index=index: np.asarray(x)[np.minimum(index, total - 1)], batch)
        chunks.append((chunk, np.where(index < total, index, -1).astype(np.int32)))
    return chunks
