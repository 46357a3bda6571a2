"""Optimizers, schedules, clipping. The learning rate is traced: nothing here recompiles."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from ml_collections import ConfigDict


@flax.struct.dataclass
class Flat:
    """A tree of arrays as one vector ``[numbers]``: a few kernels update it, where a tree takes one for every array."""

    vector: jax.Array
    unravel: Callable[[jax.Array], Any] = flax.struct.field(pytree_node=False)

    @classmethod
    def of(cls, tree: Any) -> "Flat":
        return cls(*ravel_pytree(tree))

    @property
    def tree(self) -> Any:
        return self.unravel(self.vector)


class OptimizerState(NamedTuple):
    """``inner``: optax's state of the update rule; ``plateau``: of ``reduce_on_plateau``, or ()."""

    inner: Any
    plateau: Any


class Optimizer:
    """An optax rule whose learning rate depends on the step (not on its own count) and the plateau.

    Args:
      config: the config's section `optimizer`.
      total_steps: the length of a cosine.
    """

    def __init__(self, config: ConfigDict, total_steps: int):
        clips = {"norm": optax.clip_by_global_norm, "value": optax.clip, "none": lambda _: optax.identity()}
        clip = clips[config.clip](config.clip_at)
        decay = optax.add_decayed_weights(config.weight_decay) if config.weight_decay else optax.identity()
        moments = optax.scale_by_adamax() if config.name == "adamax" else optax.scale_by_adam()
        # Coupled but for adamw: the penalty is part of the gradient and passes through the moments, as in the papers.
        direction = (moments, decay) if config.name == "adamw" else (decay, moments)
        self.rule = optax.chain(clip, *direction)
        self.schedule = _schedule(config, total_steps)
        self.plateau = None
        if config.schedule == "plateau":
            # Of optax, the evaluation that decays is one of the patience; of PyTorch, the one after.
            self.plateau = optax.contrib.reduce_on_plateau(factor=config.decay_factor, patience=config.patience + 1)

    def init(self, params: jax.Array) -> OptimizerState:
        return OptimizerState(self.rule.init(params), self.plateau.init(jnp.zeros(())) if self.plateau else ())

    def learning_rate(self, state: OptimizerState, step: jax.Array) -> jax.Array:
        """The learning rate of this step, float32."""
        scale = state.plateau.scale if self.plateau else 1.0
        return jnp.asarray(self.schedule(step) * scale, jnp.float32)

    def update(
        self, grads: jax.Array, state: OptimizerState, params: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, OptimizerState]:
        """``(new params, new state)``; gradients and parameters are the vectors of `Flat`."""
        directions, inner = self.rule.update(grads, state.inner, params)
        return params - self.learning_rate(state, step) * directions, state._replace(inner=inner)

    def observe(self, state: OptimizerState, value: float) -> OptimizerState:
        """Tells the plateau schedule the value of a validation, lower is better.

        As PyTorch's ReduceLROnPlateau it decays at the one after ``patience`` that were no better.
        """
        _, plateau = self.plateau.update(jnp.zeros(()), state.plateau, value=value)
        return state._replace(plateau=plateau)


def _schedule(config: ConfigDict, total_steps: int) -> Callable[[jax.Array], jax.Array]:
    peak, warmup = config.learning_rate, config.warmup
    base = optax.constant_schedule(peak)
    if config.schedule == "cosine":
        base = optax.cosine_decay_schedule(peak, max(total_steps - warmup, 1), alpha=config.decay_factor)
    return lambda step: base(jnp.maximum(step - warmup, 0)) * jnp.minimum(1.0, (step + 1) / max(warmup, 1))
