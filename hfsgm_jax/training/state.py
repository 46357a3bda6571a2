"""The state of a training run: all that a step changes."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from hfsgm_jax.config import ConfigError
from hfsgm_jax.trace import Plan, Sets
from hfsgm_jax.training.optimizer import Optimizer, OptimizerState

AUXILIARY = "objective"  # where the parameters of an objective lie, beside the model's


@flax.struct.dataclass
class TrainState:
    """No random keys: every key is ``fold_in(root, step)``.

    Attributes:
      step: int32, optimizer steps done, skipped ones included.
      params: of the model, and under `AUXILIARY` of its objective.
      ema_params: their running average, or None.
      opt_state: see ``optimizer.OptimizerState``.
      model_state: ``{"batch_stats": ...}`` of models with batch normalisation, otherwise ``{}``.
      skipped, skipped_in_a_row: int32, steps with a non-finite loss or gradient.
    """

    step: jax.Array
    params: Any
    ema_params: Any
    opt_state: OptimizerState
    model_state: dict[str, Any]
    skipped: jax.Array
    skipped_in_a_row: jax.Array

    @property
    def eval_params(self) -> Any:
        """The averaged parameters once averaging is on."""
        return self.params if self.ema_params is None else self.ema_params

    @property
    def eval_variables(self) -> dict[str, Any]:
        """What ``model.apply`` takes outside training."""
        return {"params": self.eval_params, **self.model_state}


def init_function(
    model: Any,
    optimizer: Optimizer,
    ema: float,
    sets: Sets,
    auxiliary: Callable[[jax.Array], Any] | None = None,
) -> Callable[[jax.Array], TrainState]:
    """A function ``key -> TrainState``.

    Args:
      sets: an example batch; shapes suffice.
      auxiliary: key -> parameters of the objective, if it has any.
    """

    def init(key: jax.Array) -> TrainState:
        examples = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), sets)
        keys = {"params": jax.random.fold_in(key, 0), "sample": jax.random.fold_in(key, 1)}
        variables = dict(model.init(keys, examples, Plan(train=True)))
        params = dict(variables.pop("params"))
        if auxiliary is not None:
            params[AUXILIARY] = auxiliary(jax.random.fold_in(key, 2))
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            ema_params=jax.tree.map(jnp.copy, params) if ema else None,
            opt_state=optimizer.init(params),
            model_state=variables,
            skipped=jnp.zeros((), jnp.int32),
            skipped_in_a_row=jnp.zeros((), jnp.int32),
        )

    return init


def check_averaging(config: ConfigDict, model: Any, image_shape: tuple[int, int, int]) -> None:
    """Raises a ConfigError where ``optimizer.ema`` would average the parameters of a model with batch normalisation.

    As `abstract_state`, but without an example of the data; nothing is computed.
    """
    if not config.optimizer.ema:
        return

    def init(key: jax.Array) -> Any:
        return model.init({"params": key, "sample": key}, Sets.of(jnp.zeros((1, 2, *image_shape))), Plan())

    _refuse_averages(jax.eval_shape(init, jax.random.key(0)), f"model.name={config.model.name!r}")


def _refuse_averages(variables: Mapping[str, Any], name: str = "this model") -> None:
    if "batch_stats" in variables:
        raise ConfigError(
            f"optimizer.ema averages parameters, and {name} has batch normalisation, whose statistics belong to the "
            "parameters of the last step: set optimizer.ema=0"
        )


def abstract_state(init: Any, key: jax.Array, sharding: NamedSharding) -> TrainState:
    """Shapes, dtypes and this run's shardings of the state; nothing is computed.

    Raises:
      ConfigError: averaged parameters for a model whose batch statistics do not belong to them.
    """
    state = jax.eval_shape(init, key)
    if state.ema_params is not None:
        _refuse_averages(state.model_state)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state)


def create_state(init: Any, key: jax.Array, sharding: NamedSharding) -> TrainState:
    """The state at step 0, made on the devices by one compiled program."""
    return jax.jit(init, out_shardings=sharding)(key)
