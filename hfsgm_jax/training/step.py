"""The training step: one compiled program that samples, differentiates and updates.

Gradients are those of the *sum* of the loss over target images, divided by the number of targets
of the whole batch: accumulation over parts, ragged sets and devices all give the same mean.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, Sharding
from ml_collections import ConfigDict

from hfsgm_jax import config as config_lib
from hfsgm_jax import mesh as mesh_lib
from hfsgm_jax import objectives, tightening
from hfsgm_jax.trace import Plan, Sets
from hfsgm_jax.training.optimizer import Optimizer
from hfsgm_jax.training.state import AUXILIARY, TrainState

SUMS = ("loss", "nelbo", "log_px", "kl_c", "kl_z", "count")
BATCH_KEY, MODEL_KEY = 0, 1

Metrics = dict[str, jax.Array]


def to_sets(batch: Any) -> Sets:
    """A batch of the data pipeline as sets; unless it says otherwise, every image is context and target."""
    sets = Sets.of(
        batch.images.astype(jnp.float32),
        batch.mask,
        class_size=batch.class_size,
        label=batch.label,
        group=batch.group,
        member=batch.member,
    )
    if batch.target is None:
        return sets if batch.sizes is None else sets.replace(sizes=batch.sizes)
    return sets.replace(context=batch.context, target=batch.target, sizes=batch.sizes)


def training_plan(config: ConfigDict) -> Plan:
    """All slots are decoded, or the targets alone where they were drawn apart from the context."""
    targets = config_lib.num_targets(config)
    return Plan(decode="target", num_decoded=targets, train=True) if targets else Plan(train=True)


def zero_metrics() -> Metrics:
    """What the step adds up on the device between two lines of the log."""
    metrics = {name: jnp.zeros((), jnp.float32) for name in (*SUMS, "grad_norm", "steps", "learning_rate")}
    return {**metrics, "images": jnp.zeros((), jnp.int32)}


def summarize(metrics: Metrics) -> dict[str, float]:
    """Means per target image and per step of added-up metrics; none where every step was skipped."""
    values = {name: float(value) for name, value in metrics.items()}
    result = {"learning_rate": values["learning_rate"]}
    if values["count"]:
        result |= {f"train/{name}": values[name] / values["count"] for name in SUMS[:-1]}
        result["grad_norm"] = values["grad_norm"] / values["steps"]
    return result


def loss_weights(config: ConfigDict, step: jax.Array) -> dict[str, Any]:
    """Alpha, annealed per epoch, and the weight of the KL at this step."""
    objective, per_epoch = config.objective, config.train.steps_per_epoch
    alpha = jnp.float32(objective.alpha) * jnp.float32(objective.alpha_decay) ** (step // per_epoch)
    warmup = objective.kl_warmup
    kl_weight = jnp.minimum(1.0, (step + 1) / warmup) if warmup else jnp.float32(1.0)
    return dict(alpha=alpha, kl_weight=kl_weight)


def make_train_step(
    model: Any,
    config: ConfigDict,
    optimizer: Optimizer,
    sample: Callable[[Any, jax.Array], Any],
    mesh: Mesh,
    data_sharding: Sharding | None = None,
) -> Callable:
    """The jitted ``(state, metrics, table, root) -> (state, metrics, step)``.

    Args:
      model: Flax module of ``hfsgm_jax.models``.
      config: resolved (``train.steps_per_epoch`` above 0).
      optimizer: see ``make_optimizer``.
      sample: ``(table, key) -> Batch``, the global batch.
      mesh: the devices.
      data_sharding: of the arrays of ``table``; default: on every device.

    State and metrics are donated. One call does ``train.steps_per_dispatch`` steps. The third
    result is the step reached, to wait for. After ``train.max_skipped`` non-finite steps in a row
    the state stays as it is, for the loop to find.
    """
    whole = mesh_lib.replicated(mesh)
    gradients = _gradients_function(model, config, mesh)

    def one_step(state: TrainState, metrics: Metrics, table, root) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(root, state.step)
        batch = sample(table, jax.random.fold_in(key, BATCH_KEY))
        batch = jax.lax.with_sharding_constraint(batch, mesh_lib.by_rows(mesh))
        sets = to_sets(batch)
        grads, sums, model_state = gradients(
            state.params, state.model_state, sets, jax.random.fold_in(key, MODEL_KEY), loss_weights(config, state.step)
        )
        norm = optax.global_norm(grads)
        finite = jnp.isfinite(norm) & jnp.isfinite(sums["loss"])
        good = finite & (state.skipped_in_a_row < config.train.max_skipped)
        new = _updated(state, grads, model_state, optimizer, config.optimizer.ema)
        new = jax.tree.map(lambda new, old: jnp.where(good, new, old), new, state)
        new = new.replace(
            step=state.step + 1,
            skipped=state.skipped + ~good,
            skipped_in_a_row=jnp.where(good, 0, state.skipped_in_a_row + 1),
        )
        added = {**sums, "grad_norm": norm, "steps": jnp.float32(1)}
        result = {name: metrics[name] + jnp.where(good, value, 0) for name, value in added.items()}
        result["learning_rate"] = optimizer.learning_rate(state.opt_state, state.step)
        result["images"] = metrics["images"] + sets.target.sum(dtype=jnp.int32)
        return new, result

    def dispatch(state: TrainState, metrics: Metrics, table, root):
        if config.train.steps_per_dispatch == 1:
            state, metrics = one_step(state, metrics, table, root)
        else:
            (state, metrics), _ = jax.lax.scan(
                lambda carry, _: (one_step(*carry, table, root), None),
                (state, metrics),
                length=config.train.steps_per_dispatch,
                unroll=_unroll(),
            )
        return state, metrics, state.step

    shardings = whole, whole, data_sharding or whole, whole
    return jax.jit(dispatch, in_shardings=shardings, out_shardings=(whole,) * 3, donate_argnums=(0, 1))


def _updated(state: TrainState, grads, model_state, optimizer: Optimizer, ema: float) -> TrainState:
    """The state after this gradient, counters apart."""
    params, opt_state = optimizer.update(grads, state.opt_state, state.params, state.step)
    averaged = state.ema_params
    if averaged is not None:
        # The average forgets its start quickly, so that short runs profit too.
        decay = jnp.minimum(ema, (1.0 + state.step) / (10.0 + state.step))
        averaged = optax.incremental_update(params, averaged, 1 - decay)
    return state.replace(params=params, opt_state=opt_state, ema_params=averaged, model_state=model_state)


def _gradients_function(model: Any, config: ConfigDict, mesh: Mesh) -> Callable:
    """``(params, model_state, sets, key, weights) -> (gradients, sums, model_state)`` of one batch."""
    parts, plan = config.optimizer.accumulate, training_plan(config)

    def loss_sum(params, model_state, sets, key, weights):
        trace, updated = model.apply(
            {"params": params, **model_state},
            sets,
            plan,
            rngs={"sample": key},
            mutable=["batch_stats"],
        )
        gain = tightening.gain(params[AUXILIARY], trace, sets) if AUXILIARY in params else None
        settings = dict(objective=config.objective.name, free_bits=config.objective.free_bits, gain=gain)
        sums = objectives.weighted_sums(trace, sets, **settings, **weights)
        sums = {name: jnp.asarray(sums[name], jnp.float32) for name in SUMS}
        return sums["loss"], (sums, dict(updated))

    def part_sums(params, model_state, sets, key, weights):
        (_, (sums, model_state)), grads = jax.value_and_grad(loss_sum, has_aux=True)(
            params, model_state, sets, key, weights
        )
        return grads, sums, model_state

    def whole_batch(params, model_state, sets, key, weights):
        if parts == 1:
            grads, sums, model_state = part_sums(params, model_state, sets, jax.random.fold_in(key, 0), weights)
        else:

            def add_part(carry, part):
                grads, sums, model_state = carry
                index, rows = part
                more, more_sums, model_state = part_sums(
                    params, model_state, rows, jax.random.fold_in(key, index), weights
                )
                return jax.tree.map(jnp.add, (grads, sums), (more, more_sums)) + (model_state,), None

            zeros = jax.tree.map(jnp.zeros_like, params), dict.fromkeys(SUMS, jnp.float32(0))
            (grads, sums, model_state), _ = jax.lax.scan(
                add_part, (*zeros, model_state), (jnp.arange(parts), _split_rows(sets, parts, mesh)), unroll=_unroll()
            )
        return jax.tree.map(lambda g: g / sums["count"], grads), sums, model_state

    return whole_batch


def _unroll() -> bool:
    """Inside a loop, XLA takes 100 times as long for the gradient of a convolution on a CPU."""
    return jax.default_backend() == "cpu"


def _split_rows(sets: Sets, parts: int, mesh: Mesh) -> Sets:
    """``[B, ...]`` -> ``[parts, B / parts, ...]``; part p takes every parts-th row, from every device."""

    def split(x):
        x = jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0)
        return jax.lax.with_sharding_constraint(x, mesh_lib.by_rows(mesh, axis=1))

    return jax.tree.map(split, sets)
