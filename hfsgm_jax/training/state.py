"""The state of a training run: all that a step changes."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from hfsgm_jax import devices, processes
from hfsgm_jax.errors import ConfigError
from hfsgm_jax.run_folder import OWN
from hfsgm_jax.trace import Plan, Sets
from hfsgm_jax.training.optimizer import Flat, Optimizer, OptimizerState


@flax.struct.dataclass
class TrainState:
    """No random keys: every key is ``fold_in(root, step)``.

    Attributes:
      step: int32, optimizer steps done, skipped ones included.
      params: of the model, and under ``objective`` those of an objective's own: ``params.tree`` has their names.
      ema_params: their running average, or None.
      opt_state: see ``optimizer.OptimizerState``.
      model_state: ``{"batch_stats": ...}`` of models with batch normalisation, otherwise ``{}``.
      images: uint32, target images trained on.
      skipped, skipped_in_a_row: int32, steps with a non-finite loss or gradient.
    """

    step: jax.Array
    params: Flat
    ema_params: Flat | None
    opt_state: OptimizerState
    model_state: dict[str, Any]
    images: jax.Array
    skipped: jax.Array
    skipped_in_a_row: jax.Array

    @property
    def variables(self) -> dict[str, Any]:
        """The variables that ``model.apply`` takes outside training: averaged once averaging is on."""
        params = self.params if self.ema_params is None else self.ema_params
        return {"params": as_tree(params), **self.model_state}

    def with_parameters(self, function: Callable) -> "TrainState":
        """The state with a function applied to the parameters and to their average: checkpoints hold them `as_tree`."""
        averaged = None if self.ema_params is None else function(self.ema_params)
        return self.replace(params=function(self.params), ema_params=averaged)


as_tree = jax.jit(lambda flat: flat.tree)  # compiled: else a slice and a reshape for every array
as_flat = jax.jit(Flat.of)


def init_state(
    key: jax.Array, model: Any, optimizer: Optimizer, ema: float, sets: Sets, init_own: Callable | None = None
) -> TrainState:
    """The state at step 0.

    Args:
      sets: an example batch; only its shapes matter.
      init_own: ``(key, model) ->`` parameters of the objective's own, if it has any.
    """
    examples = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), sets)
    keys = {"params": jax.random.fold_in(key, 0), "sample": jax.random.fold_in(key, 1)}
    variables = dict(model.init(keys, examples, Plan(train=True)))
    params = dict(variables.pop("params"))
    if init_own is not None:
        params[OWN] = init_own(jax.random.fold_in(key, 2), model)
    return TrainState(
        step=jnp.int32(0),
        params=(flat := Flat.of(params)),
        ema_params=jax.tree.map(jnp.copy, flat) if ema else None,
        opt_state=optimizer.init(flat.vector),
        model_state=variables,
        images=jnp.uint32(0),
        skipped=jnp.int32(0),
        skipped_in_a_row=jnp.int32(0),
    )


def start_from(state: TrainState, variables: dict[str, Any]) -> TrainState:
    """The state with the variables of another model, wherever name and shape are the same; says how many are.

    Raises:
      ConfigError: they are the same nowhere.
    """
    others, own = flatten_dict(variables), flatten_dict({"params": as_tree(state.params), **state.model_state})
    paths = [path for path, x in own.items() if path in others and others[path].shape == x.shape]
    if not paths:
        raise ConfigError("train.start is a model of which no array of parameters has the name and shape of this one's")
    if processes.is_writer():
        print(f"{len(paths)} of {len(own)} arrays of parameters are those of train.start", flush=True)
    taken = {path: devices.place(np.asarray(others[path], own[path].dtype), own[path].sharding) for path in paths}
    own = unflatten_dict(own | taken)
    params = as_flat(own.pop("params"))
    averaged = None if state.ema_params is None else jax.tree.map(jnp.copy, params)
    return state.replace(params=params, ema_params=averaged, model_state=own)
