"""Validation while training: the plain ELBO of fixed sets and the run's own objective, with fixed noise."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from hfsgm_jax import devices, objectives
from hfsgm_jax.trace import Plan, Sets
from hfsgm_jax.training.step import training_plan

PARTS = ("nelbo", "log_px", "kl_c", "kl_z")
Sums = dict[str, jax.Array]


def make_validation(
    model: Any, measure: Callable, fixed: Sets, drawn: Sets | None, config: ConfigDict, mesh: Mesh
) -> Callable[[dict[str, Any]], dict[str, float]]:
    """``variables -> {"val/objective": nats per image, ...}`` on fixed sets.

    ``val/nelbo`` and its parts are those of the ELBO with context = target and alpha = 0, whatever the objective;
    ``val/objective`` is the objective at alpha = 0, and the same number where that is this ELBO. Every row has noise
    of its own: neither the rows evaluated at once nor the devices matter.

    Args:
      measure: ``(trace, sets) -> SUMS`` of the objective.
      fixed: sets of host arrays; evaluated ``eval.sets_per_batch`` rows at a time, rounded up to a multiple of the
        devices.
      drawn: sets of ``val/objective``, whose contexts and targets are drawn as in training; None: ``fixed``.
    """
    key = jax.random.fold_in(jax.random.key(config.eval.seed), 1)
    rows = -(-config.eval.sets_per_batch // mesh.size) * mesh.size
    plans = Plan(), dataclasses.replace(training_plan(config), train=False)
    place = functools.partial(devices.place, sharding=devices.by_rows(mesh))
    chunks = [[place(chunk) for chunk in _chunks(sets, rows)] for sets in (fixed, drawn) if sets is not None]

    def of_row(plan: Plan, variables: Any, row: Sets, index: jax.Array) -> tuple[Sums, Sums]:
        """Sums over the targets of one row: of the ELBO and of the objective."""
        sets = jax.tree.map(lambda x: x[None], row)
        trace = model.apply(variables, sets, plan, rngs={"sample": jax.random.fold_in(key, index)})
        return objectives.loss_sums(trace, sets), measure(trace, sets)

    @functools.partial(jax.jit, static_argnums=0, out_shardings=devices.replicated(mesh))
    def of_chunk(plan: Plan, variables: Any, chunk: tuple[Sets, jax.Array]) -> tuple[Sums, Sums]:
        sets, index = chunk
        sums = jax.vmap(functools.partial(of_row, plan), (None, 0, 0))(variables, sets, jnp.abs(index))
        return jax.tree.map(lambda x: jnp.where(index >= 0, x, 0).sum(), sums)

    def validate(variables: dict[str, Any]) -> dict[str, float]:
        found = [[of_chunk(plan, variables, chunk) for chunk in of_sets] for plan, of_sets in zip(plans, chunks)]
        sums = [jax.device_get(jax.tree.map(lambda *x: sum(x), *of_sets)) for of_sets in found]
        elbo, objective = sums[0][0], sums[-1][1]
        values = {f"val/{name}": float(elbo[name] / elbo["count"]) for name in PARTS}
        return values | {"val/objective": float(objective["loss"] / objective["count"])}

    return validate


def _chunks(sets: Sets, rows: int) -> Iterator[tuple[Sets, np.ndarray]]:
    """``rows`` rows at a time with the rows' numbers; the last ones are filled up with copies, their number -1."""
    for start in range(0, sets.num_rows, rows):
        index = np.arange(start, start + rows)
        chunk = jax.tree.map(lambda x, index=index: np.asarray(x)[np.minimum(index, sets.num_rows - 1)], sets)
        yield chunk, np.where(index < sets.num_rows, index, -1).astype(np.int32)
