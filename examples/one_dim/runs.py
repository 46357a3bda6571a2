"""Training and measuring the models of the study.

All |D| and restarts of a family and an objective are trained side by side by one compiled program: the library's
training step, vectorised over them. Its sets have as many slots as the largest |D| asks for, of which the masks of a
run leave the first |D|: a run sees the very batches, and takes the very steps, that it would alone.
"""

import functools
import logging
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from examples.one_dim.laws import CLASSES, numbers
from hfsgm_jax import classification, data, default_config, objectives, sampling, setup
from hfsgm_jax.trace import SET, Plan, Sets
from hfsgm_jax.training.optimizer import Optimizer
from hfsgm_jax.training.state import TrainState, as_tree, init_state
from hfsgm_jax.training.step import Batch, make_step, training_plan

ROWS = 10  # sets per step: an epoch shows each of the 100 training classes once
WARMUP, EPOCHS = 50, 200  # epochs in which the weight of the KL grows, and those that follow (as in the paper)
ERROR_BATCHES = 1000  # that a training error is the mean over: as many sets as there are numbers
DRAWS = 5  # sets D per test class
QUERIES = 20  # numbers x' per test class and D
SAMPLES_C = 20  # of q(c; D), that nll and error average over
IMPORTANCE_SAMPLES = 200
MEASURES = ("kl", "nll", "error", "error_shared", "joint_nll")
ERROR_SEED = 2**31 - 1  # no run has it


def study_config(family: str, objective: str, largest: int, seed: int = 0, known: tuple[float, ...] = ()) -> ConfigDict:
    """The config of a run whose sets have up to ``largest`` numbers: Adam at 0.02, down to 0 along a cosine."""
    config = default_config("one_dim")
    config.seed = config.data.seed = seed
    config.data.update(image_size=1, binarize="none", sets_per_batch=ROWS)
    config.data.set_size = largest
    config.model.update(family=family, known=known)
    epoch = CLASSES // ROWS
    config.objective.update(name=objective, kl_warmup=WARMUP * epoch)
    config.optimizer.update(learning_rate=0.02, schedule="cosine", decay_factor=0.0)
    config.train.update(steps=(WARMUP + EPOCHS) * epoch, steps_per_epoch=epoch, devices=1, cpu_devices=1)
    return config


class Runs:
    """The runs of one family and objective, a ``[len(sizes) * restarts]`` axis of everything; |D| varies slowest.

    Args:
      config: of `study_config`; ``data.set_size`` is the largest of ``sizes``. A run's seed is ``config.seed`` plus
        its restart.
      sizes: the |D|.
      restarts: independent runs of each; every second one has the whole KL from the first step on.
    """

    def __init__(self, config: ConfigDict, sizes: Sequence[int], restarts: int):
        dataset = numbers(config.model.family, config.data.seed)
        self.ready = setup(config, dataset)
        self.config, self.model = self.ready.config, self.ready.model
        self.sizes, self.restarts = tuple(sizes), restarts
        self.test_data = data.load_dataset(self.config.data, "test", dataset=dataset)
        self.set_size = jnp.repeat(jnp.array(self.sizes), restarts)
        restart = jnp.tile(jnp.arange(restarts), len(self.sizes))
        self.seed, self.annealed = config.seed + restart, restart % 2 == 0

    def sample(self, table: tuple[data.Table, jax.Array], key: jax.Array) -> Sets:
        """A batch of a run; the table is (the classes, the run's |D|)."""
        classes, size = table
        sets = self.ready.sample(classes, key)
        # Targets drawn apart from the context follow it, as many slots as it has.
        keep = jnp.arange(sets.num_slots) % self.config.data.set_size < size
        masks = dict(present=sets.present, observed=sets.observed, context=sets.context, target=sets.target)
        return sets.replace(**jax.tree.map(lambda mask: mask & keep, masks))

    def start(self, seed: int | jax.Array) -> TrainState:
        """The state of a run at step 0."""
        example = jax.eval_shape(self.ready.sample, *next(self.ready.batches(0)))
        optimizer = Optimizer(self.config.optimizer, self.config.train.steps)
        return init_state(jax.random.key(seed), self.model, optimizer, 0.0, example)

    def train(self) -> tuple[Any, np.ndarray]:
        """The parameters of all runs, and their training errors ``[len(sizes), restarts]``."""
        config, classes = self.config, self.ready.dataset.table()
        optimizer = Optimizer(config.optimizer, config.train.steps)
        measure = objectives.OBJECTIVES[config.objective.name].sums

        def step(state, batch, annealed):
            def own(trace, sets, kl_weight, **weights):
                return measure(trace, sets, kl_weight=jnp.where(annealed, kl_weight, 1.0), **weights)

            return make_step(self.model, own, self.sample, optimizer, config, self.ready.mesh)(state, batch)

        @jax.jit
        def all_runs(classes):
            roots = jax.vmap(jax.random.key)(self.seed)
            states = jax.vmap(self.start)(self.seed)
            steps = jax.vmap(step, (0, Batch((None, 0), 0), 0))
            batch = Batch((classes, self.set_size), roots)
            one_step = lambda states, _: (steps(states, batch, self.annealed)[0], None)
            states, _ = jax.lax.scan(one_step, states, length=config.train.steps)
            params = jax.vmap(as_tree)(states.params)
            errors = jax.vmap(self._training_error, (0, None, 0))(params, classes, self.set_size)
            return params, errors, states.skipped

        params, errors, skipped = all_runs(classes)
        if np.any(skipped):
            logging.warning("%d steps were skipped: loss or gradient not finite", int(skipped.sum()))
        return params, np.asarray(errors).reshape(len(self.sizes), self.restarts)

    def _training_error(self, params: Any, classes: data.Table, size: jax.Array) -> jax.Array:
        """The objective, nats per target, on batches that are the same for all restarts."""

        def one(key):
            sets = self.sample((classes, size), jax.random.fold_in(key, 0))
            rngs = {"sample": jax.random.fold_in(key, 1)}
            trace = self.model.apply({"params": params}, sets, training_plan(self.config), rngs=rngs)
            sums = objectives.OBJECTIVES[self.config.objective.name].sums(trace, sets)
            return sums["nelbo"] / sums["count"]

        return jax.lax.map(one, jax.random.split(jax.random.key(ERROR_SEED), ERROR_BATCHES)).mean()

    def best(self, params: Any, errors: np.ndarray) -> Any:
        """Of ``params``, those of the run of each |D| with the lowest error: ``[len(sizes)]``."""
        chosen = np.arange(len(self.sizes)) * self.restarts + errors.argmin(1)
        return jax.tree.map(lambda x: x[chosen], params)

    def measure(self, params: Any) -> dict[str, np.ndarray]:
        """Name of `MEASURES` -> ``[len(sizes), test classes]``, of models `best` has chosen."""
        key = jax.random.key(self.config.eval.seed)
        found = _measure(self.model, params, jnp.array(self.sizes), self.test_data.table(), key)
        return jax.tree.map(np.asarray, found)


@functools.partial(jax.jit, static_argnums=0)
def _measure(model: Any, params: Any, sizes: jax.Array, table: data.Table, key: jax.Array) -> dict[str, jax.Array]:
    """`MEASURES` of each model on its |D|, ``[models, classes]``; all models see the same draws."""
    return jax.vmap(functools.partial(_measure_one, model), (0, 0, None, None))(params, sizes, table, key)


def _measure_one(model, params, size, table, key) -> dict[str, jax.Array]:
    apply, encode = sampling.bind(model, {"params": params})
    points = table.member.shape[0]
    spec = data.SetSpec(rows=table.size.shape[0], low=points, high=points)  # every class once, all of it, shuffled

    def draw(key):
        whole = data.sample_sets(table, key, spec)
        order = jnp.argsort(whole.ids[SET])
        return jax.tree.map(lambda x: x[order], whole)

    few_shot = functools.partial(_few_shot, apply, encode, size)
    found = jax.lax.map(lambda key: few_shot(draw(key), key), jax.random.split(key, DRAWS))
    whole = draw(key)
    bound = objectives.joint_bounds(apply, whole, key, (IMPORTANCE_SAMPLES,), features=encode(whole))[0]
    return {**jax.tree.map(lambda x: x.mean(0), found), "joint_nll": -bound / points}


def _few_shot(apply, encode, size, whole: Sets, key) -> dict[str, jax.Array]:
    """kl, nll and error ``[classes]`` where D is the first ``size`` numbers of each class, and x' the last ones.

    The mean of an error over classes is that over pairs, its spread that of both classes of a pair.
    """
    num = whole.num_rows
    support = Sets.of(whole.images, (jnp.arange(whole.num_slots) < size) & whole.observed)
    (c,) = apply(support, Plan(), key).on(SET)
    queries = whole.images[:, -QUERIES:]
    settings = dict(classifiers=("mean_log",), num_samples=SAMPLES_C, num_samples_z=1, chunk=num * num * QUERIES)

    def own_and_error(shared_noise):
        all_queries, noise = queries.reshape(-1, *queries.shape[2:]), jax.random.fold_in(key, 1)
        log_p = classification.scores(
            apply, encode, support, all_queries, noise, shared_noise=shared_noise, **settings
        )["mean_log"].reshape(num, QUERIES, num)
        own = jnp.take_along_axis(log_p, jnp.arange(num)[:, None, None], 2)
        wrong = ((log_p > own) + 0.5 * (log_p == own)).mean(1)
        # Without the tie of a class with itself. Every pair is of two classes: errors over classes have to see both.
        as_own, as_other = ((wrong.sum(axis) - 0.5) / (num - 1) for axis in (1, 0))
        return own, as_own + as_other - as_own.mean()

    (own, error), (_, error_shared) = own_and_error(False), own_and_error(True)
    nll = -own.mean((1, 2))
    return {"kl": objectives.latent_kl(c)[:, 0], "nll": nll, "error": error, "error_shared": error_shared}
