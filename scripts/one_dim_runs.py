"""Training and measuring the models of `scripts.one_dim_study`.

All |D| and restarts of a family and an objective are trained side by side by one compiled program: the package's
training step, vectorised over them. Its sets have as many slots as the largest |D| asks for, of which the mask of a run
leaves the first |D|: a run sees the very batches, and takes the very steps, that it would alone.
"""

import functools
import logging
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from hfsgm_jax import classification, data, objectives, sampling
from hfsgm_jax import config as config_lib
from hfsgm_jax import mesh as mesh_lib
from hfsgm_jax.models import build_model
from hfsgm_jax.trace import SET, Plan, Sets
from hfsgm_jax.training.optimizer import make_optimizer
from hfsgm_jax.training.state import init_function
from hfsgm_jax.training.step import make_train_step, to_sets, training_plan, zero_metrics

ERROR_BATCHES = 100  # that a training error is the mean over
DRAWS = 5  # sets D per test class
QUERIES = 20  # numbers x' per test class and D
SAMPLES_C = 20  # of q(c; D), that nll and error average over
IMPORTANCE_SAMPLES = 200
MEASURES = ("kl", "nll", "error", "joint_nll")
ERROR_SEED = 2**31 - 1  # no run has it


class Runs:
    """The runs of one family and objective, a ``[len(sizes) * restarts]`` axis of everything; |D| varies slowest.

    Args:
      config: of a run (`configs/one_dim.py`); ``data.set_size`` is the largest of ``sizes``. A run's seed is
        ``config.seed`` plus its restart.
      sizes: the |D|.
      restarts: independent runs of each.
    """

    def __init__(self, config: ConfigDict, sizes: Sequence[int], restarts: int):
        self.config, self.sizes, self.restarts = config, tuple(sizes), restarts
        self.train_data, self.test_data = (data.load_dataset(config.data, split) for split in ("train", "test"))
        self.model = build_model(config.model, data.image_shape(config.data))
        self.spec = data.SetSpec.from_config(config.data, targets=config_lib.num_targets(config))
        self.set_size = jnp.repeat(jnp.array(self.sizes), restarts)
        self.seed = config.seed + jnp.tile(jnp.arange(restarts), len(self.sizes))

    def sample(self, table: tuple[data.ClassTable, jax.Array], key: jax.Array) -> data.Batch:
        """A batch of a run; the table is (the classes, the run's |D|)."""
        classes, size = table
        batch = data.sample_sets(classes, key, self.spec)
        # Targets drawn apart from the context follow it, as many slots as it has.
        keep = jnp.arange(self.spec.num_slots) % self.spec.high < size
        masks = {"mask": batch.mask, "context": batch.context, "target": batch.target}
        return batch._replace(**jax.tree.map(lambda mask: mask & keep, masks))

    def train(self) -> tuple[Any, np.ndarray]:
        """The parameters of all runs, and their training errors ``[len(sizes), restarts]``."""
        config, classes = self.config, self.train_data.on_device()
        optimizer = make_optimizer(config.optimizer, config.train.steps)
        step = make_train_step(self.model, config, optimizer, self.sample, mesh_lib.make_mesh(1))
        steps = jax.vmap(step, (0, 0, (None, 0), 0))
        example = jax.eval_shape(lambda key: to_sets(self.sample((classes, jnp.int32(1)), key)), jax.random.key(0))
        init = init_function(self.model, optimizer, config.optimizer.ema, example)

        @jax.jit
        def all_runs(classes):
            roots = jax.vmap(jax.random.key)(self.seed)
            start = jax.vmap(lambda root: (init(root), zero_metrics()))(roots)
            one_step = lambda carry, _: (steps(*carry, (classes, self.set_size), roots)[:2], None)  # noqa: E731
            (states, _), _ = jax.lax.scan(one_step, start, length=config.train.steps)
            errors = jax.vmap(self._training_error, (0, None, 0))(states.params, classes, self.set_size)
            return states.params, errors, states.skipped

        params, errors, skipped = all_runs(classes)
        if np.any(skipped):
            logging.warning("%d steps were skipped: loss or gradient not finite", int(skipped.sum()))
        return params, np.asarray(errors).reshape(len(self.sizes), self.restarts)

    def _training_error(self, params: Any, classes: data.ClassTable, size: jax.Array) -> jax.Array:
        """The objective, nats per target, on batches that are the same for all restarts."""

        def one(key):
            sets = to_sets(self.sample((classes, size), jax.random.fold_in(key, 0)))
            rngs = {"sample": jax.random.fold_in(key, 1)}
            trace = self.model.apply({"params": params}, sets, training_plan(self.config), rngs=rngs)
            sums = objectives.weighted_sums(trace, sets, objective=self.config.objective.name)
            return sums["nelbo"] / sums["count"]

        return jax.lax.map(one, jax.random.split(jax.random.key(ERROR_SEED), ERROR_BATCHES)).mean()

    def best(self, params: Any, errors: np.ndarray) -> Any:
        """Of ``params``, those of the run of each |D| with the lowest error: ``[len(sizes)]``."""
        chosen = np.arange(len(self.sizes)) * self.restarts + errors.argmin(1)
        return jax.tree.map(lambda x: x[chosen], params)

    def measure(self, params: Any) -> dict[str, np.ndarray]:
        """Name of `MEASURES` -> ``[len(sizes), test classes]``, of models `best` has chosen."""
        key = jax.random.key(self.config.eval.seed)
        found = _measure(self.model, params, jnp.array(self.sizes), self.test_data.on_device(), key)
        return jax.tree.map(np.asarray, found)


@functools.partial(jax.jit, static_argnums=0)
def _measure(model: Any, params: Any, sizes: jax.Array, table: data.ClassTable, key: jax.Array) -> dict[str, jax.Array]:
    """`MEASURES` of each model on its |D|, ``[models, classes]``; all models see the same draws."""
    return jax.vmap(functools.partial(_measure_one, model), (0, 0, None, None))(params, sizes, table, key)


def _measure_one(model, params, size, table, key) -> dict[str, jax.Array]:
    apply, encode = sampling.bind(model, {"params": params})
    points = table.member.shape[0]
    spec = data.SetSpec(rows=table.size.shape[0], low=points, high=points)  # every class once, all of it, shuffled

    def draw(key):
        whole = to_sets(data.sample_sets(table, key, spec))
        order = jnp.argsort(whole.label)
        return jax.tree.map(lambda x: x[order], whole)

    few_shot = functools.partial(_few_shot, apply, encode, size)
    found = jax.lax.map(lambda key: few_shot(draw(key), key), jax.random.split(key, DRAWS))
    whole = draw(key)
    bound = objectives.joint_bounds(apply, whole, key, (IMPORTANCE_SAMPLES,), features=encode(whole))[0]
    return {**jax.tree.map(lambda x: x.mean(0), found), "joint_nll": -bound / points}


def _few_shot(apply, encode, size, whole: Sets, key) -> dict[str, jax.Array]:
    """kl, nll and error ``[classes]`` where D is the first ``size`` numbers of each class, and x' the last ones."""
    num = whole.num_rows
    support = Sets.of(whole.images, (jnp.arange(whole.num_slots) < size) & whole.observed)
    (c,) = apply(support, Plan(), key).on(SET)
    queries = whole.images[:, -QUERIES:]
    log_p = classification.scores(
        apply,
        encode,
        support,
        queries.reshape(-1, *queries.shape[2:]),
        jax.random.fold_in(key, 1),
        classifiers=("mean_log",),
        num_samples=SAMPLES_C,
        num_samples_z=1,
        chunk=num * num * QUERIES,
    )["mean_log"].reshape(num, QUERIES, num)
    own = jnp.take_along_axis(log_p, jnp.arange(num)[:, None, None], 2)
    wrong = (log_p > own) + 0.5 * (log_p == own)
    error = (wrong.sum(2) - 0.5) / (num - 1)  # without the tie of the own class with itself
    return {"kl": objectives.latent_kl(c)[:, 0], "nll": -own.mean((1, 2)), "error": error.mean(1)}
