"""A model, data and config that compile and train in a second; also run as a program (see `main`)."""

import dataclasses
import sys
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from configs import base
from hfsgm_jax import data
from hfsgm_jax.distributions import Bernoulli, Normal, softplus_scale
from hfsgm_jax.trace import IMAGE, SET, Latent, Trace, masked_mean
from hfsgm_jax.training import loop

SHAPE = (4, 4, 1)


class TinyModel(nn.Module):
    """One Gaussian c, one Gaussian z, a linear decoder.

    Attributes:
      noise: 0 makes values the means, so that losses do not depend on keys.
      batch_norm: as the baselines have it.
      poison: the loss is not finite while the first bias is 0, that is, for ever.
    """

    noise: float = 1.0
    batch_norm: bool = False
    poison: bool = False

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
        if self.poison:
            logits = logits / self.param("zero", nn.initializers.zeros, (1,))
        latents = (
            Latent(c, Normal.standard(c.shape), qc, None, SET, 1, "c1"),
            Latent(z, Normal.standard(z.shape), qz, None, IMAGE, 1, "z1"),
        )
        return Trace(latents, z, Bernoulli(logits), None)


def tiny_dataset(seed=0, classes=12, size=6):
    rng = np.random.default_rng(seed)
    prototypes = rng.uniform(size=(classes, 1, *SHAPE))
    images = np.clip(prototypes + 0.1 * rng.normal(size=(classes, size, *SHAPE)), 0, 1)
    return data.Dataset(
        images=(255 * images).astype(np.uint8).reshape(-1, *SHAPE),
        start=np.arange(classes, dtype=np.int32) * size,
        size=np.full(classes, size, np.int32),
        label=np.arange(classes, dtype=np.int32),
        group=np.zeros(classes, np.int32),
        info={},
    )


def tiny_config(**changes):
    """Base's config at a tiny size; ``changes`` are ``section__key=value``."""
    config = base.get_config()
    config.data.image_size = 4
    config.data.set_size = 3
    config.data.sets_per_batch = 8
    config.optimizer.learning_rate = 1e-2
    config.train.update(steps=20, log_every=5, eval_every=10, save_every=10, sample_every=0, devices=1, progress=False)
    config.eval.val_sets, config.eval.sets_per_batch = 10, 4
    with config.ignore_type():
        for key, value in changes.items():
            section, name = key.split("__")
            config[section][name] = value
    return config


def train_tiny(config, workdir, **model):
    """`train` with the tiny model and data in place of the real ones."""
    with (
        mock.patch.object(loop, "build_model", lambda *_: TinyModel(**model)),
        mock.patch.object(loop, "check_model", lambda *_: None),
        mock.patch.object(loop.mesh_lib, "use_compilation_cache", lambda: None),
        mock.patch.object(data, "load_dataset", lambda config, split: tiny_dataset(seed=split == "val")),
    ):
        return loop.train(config, workdir)


@dataclasses.dataclass
class Setup:
    """What a test of the step alone needs."""

    config: object
    step: object
    state: object
    table: object
    root: object
    optimizer: object


def make_setup(config, mesh, **model) -> Setup:
    import functools

    from hfsgm_jax import mesh as mesh_lib
    from hfsgm_jax.training.optimizer import make_optimizer
    from hfsgm_jax.training.prepare import resolve
    from hfsgm_jax.training.state import create_state, init_function
    from hfsgm_jax.training.step import make_train_step, to_sets

    config = resolve(config, tiny_dataset())
    whole = mesh_lib.replicated(mesh)
    optimizer = make_optimizer(config.optimizer, config.train.steps)
    sample = functools.partial(data.sample_sets, spec=data.SetSpec.from_config(config.data))
    table = jax.device_put(tiny_dataset().on_device(), whole)
    root = jax.device_put(jax.random.key(config.seed), whole)
    example = jax.eval_shape(lambda t, k: to_sets(sample(t, k)), table, root)
    model = TinyModel(**model)
    state = create_state(init_function(model, optimizer, config.optimizer.ema, example), root, whole)
    return Setup(config, make_train_step(model, config, optimizer, sample, mesh), state, table, root, optimizer)


def main() -> None:
    """``tiny_training.py WORKDIR STEPS``: a run to kill."""
    workdir, steps = sys.argv[1:]
    config = tiny_config(train__steps=int(steps), train__keep=2, optimizer__ema=0.99)
    summary = train_tiny(config, workdir)
    sys.exit(143 if summary.ended_by == "signal" else 0)


if __name__ == "__main__":
    main()
