"""The compiled programs of training: a step that samples, differentiates and updates; and the validation.

Gradients are those of the *sum* of the loss over target images, divided by the number of targets
of the whole batch: accumulation over parts, ragged sets and devices all give the same mean.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh
from ml_collections import ConfigDict

from hfsgm_jax import devices, objectives
from hfsgm_jax.config import num_targets
from hfsgm_jax.models import SetModel
from hfsgm_jax.objectives import SUMS
from hfsgm_jax.rows import each_row
from hfsgm_jax.run_folder import OWN
from hfsgm_jax.trace import Apply, Encode, Plan, Sets, as_batch
from hfsgm_jax.training.optimizer import Optimizer
from hfsgm_jax.training.state import TrainState

BATCH_KEY, MODEL_KEY = 0, 1
MAX_SKIPPED = 50  # steps in a row with a non-finite loss or gradient

PARTS = ("nelbo", "log_px", "kl_c", "kl_z")  # of the validation

Metrics = Sums = dict[str, jax.Array]


class Batch(NamedTuple):
    """What a step takes beside the state: a table that it samples from, or the sets drawn for it; and the root key."""

    data: Any
    root: jax.Array


def make_step(
    model: Any, measure: Callable, sample: Callable, optimizer: Optimizer, config: ConfigDict, mesh: Mesh
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The jitted ``(state, batch) -> (state, metrics)``; the state given is donated.

    One call does ``train.steps_per_dispatch`` steps. Metrics are sums over them: `SUMS` over target images,
    ``grad_norm`` and ``steps`` over the steps that were not skipped; and ``learning_rate``, the last one. After
    `MAX_SKIPPED` non-finite steps in a row the state stays as it is, for the loop to find.

    Args:
      model: Flax module.
      measure: ``(trace, sets, *, alpha, kl_weight) -> SUMS``, and ``params`` where the objective has its own.
      sample: ``(batch.data, key) -> Sets``, the global batch.
      config: resolved (``train.steps_per_epoch`` above 0).
      mesh: the devices.
    """
    gradients = _gradients_function(model, measure, training_plan(config), config.optimizer.accumulate, mesh)

    def one_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(batch.root, state.step)
        sets = sample(batch.data, jax.random.fold_in(key, BATCH_KEY))
        sets = jax.lax.with_sharding_constraint(sets, devices.by_rows(mesh))
        model_key, weights = jax.random.fold_in(key, MODEL_KEY), loss_weights(config, state.step)
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # for `layers.convolve`
            grads, sums, model_state = gradients(state.params, state.model_state, sets, model_key, weights)
        norm = jnp.linalg.norm(grads.vector)
        good = jnp.isfinite(norm) & jnp.isfinite(sums["loss"]) & (state.skipped_in_a_row < MAX_SKIPPED)
        new = _updated(state, grads, model_state, optimizer, config.optimizer.ema)
        new = jax.tree.map(lambda new, old: jnp.where(good, new, old), new, state)
        new = new.replace(
            step=state.step + 1,
            images=state.images + sets.target.sum(dtype=jnp.uint32),
            skipped=state.skipped + ~good,
            skipped_in_a_row=jnp.where(good, 0, state.skipped_in_a_row + 1),
        )
        metrics = {**sums, "grad_norm": norm, "steps": jnp.float32(1)}
        metrics = {name: jnp.where(good, value, 0) for name, value in metrics.items()}
        return new, {**metrics, "learning_rate": optimizer.learning_rate(state.opt_state, state.step)}

    def dispatch(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        if config.train.steps_per_dispatch == 1:
            return one_step(state, batch)
        steps = config.train.steps_per_dispatch
        state, metrics = jax.lax.scan(lambda state, _: one_step(state, batch), state, length=steps)
        return state, {name: x[-1] if name == "learning_rate" else x.sum(0) for name, x in metrics.items()}

    return jax.jit(dispatch, out_shardings=devices.replicated(mesh), donate_argnums=0)


def training_plan(config: ConfigDict) -> Plan:
    """All slots are decoded, or the targets alone where they were drawn apart from the context."""
    targets = num_targets(config)
    return Plan(decode="target", num_decoded=targets, train=True) if targets else Plan(train=True)


def loss_weights(config: ConfigDict, step: jax.Array) -> dict[str, Any]:
    """Alpha, annealed per epoch, and the weight of the KL at this step."""
    objective, per_epoch = config.objective, config.train.steps_per_epoch
    alpha = jnp.float32(objective.alpha) * jnp.float32(objective.alpha_decay) ** (step // per_epoch)
    return dict(alpha=alpha, kl_weight=jnp.minimum(1.0, (step + 1) / max(objective.kl_warmup, 1)))


def _updated(state: TrainState, grads, model_state, optimizer: Optimizer, ema: float) -> TrainState:
    """The state after this gradient, counters apart."""
    vector, opt_state = optimizer.update(grads.vector, state.opt_state, state.params.vector, state.step)
    params = state.params.replace(vector=vector)
    averaged = state.ema_params
    if averaged is not None:
        # The average forgets its start quickly, so that short runs profit too.
        decay = jnp.minimum(ema, (1.0 + state.step) / (10.0 + state.step))
        averaged = optax.incremental_update(params, averaged, 1 - decay)
    return state.replace(params=params, opt_state=opt_state, ema_params=averaged, model_state=model_state)


def _gradients_function(model: Any, measure: Callable, plan: Plan, parts: int, mesh: Mesh) -> Callable:
    """``(params, model_state, sets, key, weights) -> (gradients, sums, model_state)`` of a batch; params are `Flat`."""

    @functools.partial(jax.grad, has_aux=True)
    def gradient(flat, model_state, sets, key, weights):
        params = flat.tree
        variables = {"params": params, **model_state}
        trace, updated = model.apply(variables, sets, plan, rngs={"sample": key}, mutable=["batch_stats"])
        own = {"params": params[OWN]} if OWN in params else {}
        sums = measure(trace, sets, **weights, **own)
        return sums["loss"], ({name: sums[name] for name in SUMS}, dict(updated))

    def of_rows(params, model_state, sets, key, weights):
        """``(gradients, (sums, model_state))`` of these rows, summed."""
        if parts == 1:
            return gradient(params, model_state, sets, jax.random.fold_in(key, 0), weights)

        def add_part(carry, part):
            total, model_state = carry
            index, rows = part
            grads, (sums, model_state) = gradient(params, model_state, rows, jax.random.fold_in(key, index), weights)
            return (jax.tree.map(jnp.add, total, (grads, sums)), model_state), None

        zeros = jax.tree.map(jnp.zeros_like, params), dict.fromkeys(SUMS, jnp.float32(0))
        rows = jnp.arange(parts), _split_rows(sets, parts, mesh)
        ((grads, sums), model_state), _ = jax.lax.scan(add_part, (zeros, model_state), rows)
        return grads, (sums, model_state)

    def of_own_rows(*args):
        vector, unravel = ravel_pytree(of_rows(*args))
        return unravel(jax.lax.psum(vector, "data"))

    def of_batch(params, model_state, *batch):
        function, several_cpus = of_rows, mesh.size > 1 and mesh.devices.flat[0].platform == "cpu"
        if several_cpus and isinstance(model, SetModel) and not model_state:
            # One sum over the devices: left to XLA, those of a CPU would meet for every array of parameters.
            # The noise of a `SetModel` follows the rows of the whole batch.
            specs = jax.P(), jax.P(), jax.P("data"), jax.P(), jax.P()
            function = jax.shard_map(of_own_rows, in_specs=specs, out_specs=jax.P(), check_vma=False)
        grads, (sums, model_state) = function(params, model_state, *batch)
        # Without the barrier XLA fuses the concatenation into each of its uses, which look up every number's array.
        return jax.tree.map(lambda x: jax.lax.optimization_barrier(x) / sums["count"], grads), sums, model_state

    return of_batch


def _split_rows(sets: Sets, parts: int, mesh: Mesh) -> Sets:
    """``[B, ...]`` -> ``[parts, B / parts, ...]``; part p takes every parts-th row, from every device."""
    split = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), sets)
    own = jax.sharding.get_abstract_mesh().manual_axes
    return split if own else jax.lax.with_sharding_constraint(split, devices.by_rows(mesh, axis=1))


# --- validation -------------------------------------------------------------------------------


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
    how = dict(key=key, mesh=mesh, at_once=config.eval.sets_per_batch)
    plans = Plan(), dataclasses.replace(training_plan(config), train=False)
    planned = [({"plan": plan}, sets) for plan, sets in zip(plans, (fixed, drawn)) if sets is not None]

    def of_row(apply: Apply, encode: Encode, row: Sets, key: jax.Array, *, plan: Plan) -> tuple[Sums, Sums]:
        """Sums over the targets of one row: of the ELBO and of the objective."""
        sets = as_batch(row)
        trace = apply(sets, plan, key)
        return objectives.loss_sums(trace, sets), measure(trace, sets)

    def validate(variables: dict[str, Any]) -> dict[str, float]:
        found = [each_row(of_row, plan, model, variables, sets, **how) for plan, sets in planned]
        sums = [jax.tree.map(lambda *x: np.concatenate(x).sum(dtype=np.float64), *batches) for batches in found]
        elbo, objective = sums[0][0], sums[-1][1]
        values = {f"val/{name}": float(elbo[name] / elbo["count"]) for name in PARTS}
        return values | {"val/objective": float(objective["loss"] / objective["count"])}

    return validate
