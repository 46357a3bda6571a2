"""A model, data and config that compile and train in seconds; also run as a program (see `main`)."""

import argparse
import ast
import functools
import sys
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import hfsgm_jax
from hfsgm_jax import processes, training
from hfsgm_jax.config import default_config
from hfsgm_jax.data import Dataset
from hfsgm_jax.distributions import Bernoulli, Normal, softplus_scale
from hfsgm_jax.trace import IMAGE, SET, Latent, Trace, masked_mean

SHAPE = (4, 4, 1)


class TinyModel(nn.Module):
    """One Gaussian c, one Gaussian z, a linear decoder: a model from outside the package.

    Attributes:
      noise: 0 makes values the means, so that losses do not depend on keys.
      batch_norm: as the baselines have it.
    """

    noise: float = 1.0
    batch_norm: bool = False

    image_shape = SHAPE
    likelihood = "bernoulli"
    prior_sees_images = False
    made_of = ()
    nodes = (SimpleNamespace(plate=SET, event_shape=(2,)), SimpleNamespace(plate=IMAGE, event_shape=(2,)))

    shared_nodes = nodes[:1]

    def encode(self, sets):
        return None

    @nn.compact
    def __call__(self, sets, plan, given=None, features=None, temperature=None):
        b, n = sets.slots.shape
        h = nn.Dense(8)(sets.images.reshape(b, n, -1))
        if self.batch_norm:
            h = nn.BatchNorm(use_running_average=not plan.train, momentum=0.9)(h)
        h = jnp.tanh(h)
        key_c, key_z = jax.random.split(self.make_rng("sample"))

        def normal(x):
            return Normal(nn.Dense(2)(x), softplus_scale(nn.Dense(2)(x)))

        def draw(q, key):
            return q.at(jax.random.normal(key, q.loc.shape), self.noise)

        qc = normal(masked_mean(h, sets.context[SET]))
        c = draw(qc, key_c)
        qz = normal(jnp.concatenate([h, jnp.broadcast_to(c, (b, n, 2))], -1))
        z = draw(qz, key_z)
        logits = nn.Dense(16)(jnp.concatenate([z, jnp.broadcast_to(c, (b, n, 2))], -1)).reshape(b, n, *SHAPE)
        latents = (
            Latent(c, Normal.standard(c.shape), qc, None, SET, 1, "c1"),
            Latent(z, Normal.standard(z.shape), qz, None, IMAGE, 1, "z1"),
        )
        return Trace(latents, z, Bernoulli(logits), None)


@functools.cache
def tiny_dataset(classes=40, size=6):
    rng = np.random.default_rng(0)
    prototypes = rng.uniform(size=(classes, 1, *SHAPE))
    images = np.clip(prototypes + 0.1 * rng.normal(size=(classes, size, *SHAPE)), 0, 1)
    return Dataset.from_arrays((255 * images).astype(np.uint8).reshape(-1, *SHAPE), np.repeat(np.arange(classes), size))


def tiny_config(**changes):
    """A config of tiny sets; ``changes`` are ``section__key=value``."""
    config = default_config("vae")
    config.data.update(split="random", set_size=3, sets_per_batch=8)
    config.optimizer.learning_rate = 1e-2
    config.train.update(steps=20, log_every=5, eval_every=10, save_every=10, sample_every=0, devices=1)
    config.eval.update(val_sets=10, sets_per_batch=4)
    with config.ignore_type():
        for key, value in changes.items():
            section, name = key.split("__")
            config[section][name] = value
    return config


def train_tiny(config, workdir, dataset=None, **model):
    """`train` with the tiny model and data."""
    return training.train(config, workdir, dataset or tiny_dataset(), TinyModel(**model))


def setup_tiny(dataset=None, model=None, **changes):
    """`setup` with the tiny model and data."""
    return training.setup(tiny_config(**changes), dataset or tiny_dataset(), model or TinyModel())


def run(s, dispatches=1, state=None):
    """The state, and the sums of the metrics, after some calls of the step."""
    state, total, batches = s.state if state is None else state, None, s.batches(0)
    for _ in range(dispatches):
        state, metrics = s.step(state, next(batches))
        total = metrics if total is None else jax.tree.map(jnp.add, total, metrics)
    return state, total


def main() -> None:
    """``tiny_training.py train|evaluate WORKDIR [KEY=VALUE ...]``: a run to kill, or one of several processes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task")
    parser.add_argument("workdir")
    parser.add_argument("changes", nargs="*")
    parser.add_argument("--coordinator")
    parser.add_argument("--num_processes", type=int)
    parser.add_argument("--process_id", type=int)
    args = parser.parse_args()
    changes = {key: ast.literal_eval(value) for key, value in (change.split("=") for change in args.changes)}
    processes.start(args.coordinator, args.num_processes, args.process_id)
    if args.task == "train":
        sys.exit(143 if train_tiny(tiny_config(**changes), args.workdir).ended_by == "signal" else 0)
    hfsgm_jax.evaluate(args.workdir, ["likelihood"], tiny_dataset(), TinyModel(), **changes)


if __name__ == "__main__":
    main()
