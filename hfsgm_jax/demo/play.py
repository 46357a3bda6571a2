"""What the page asks of a model. Every program has one shape, so that it is compiled once, before the first drawing."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from hfsgm_jax import sampling
from hfsgm_jax.api import FewShotModel, ragged, temperatures
from hfsgm_jax.errors import UserError
from hfsgm_jax.trace import PRIOR, Plan

SHOTS = 5  # images of a set, at most
AT_ONCE = 8  # new images of a program; more are several runs of it, each with a draw of the shared latents
STEPS = 9  # from one set to another
ROWS = 3  # of images on the way
ITERATIONS = 8  # of the film of refinement
SAMPLES = 8, 4  # of c, and of z given each, for a likelihood


class Player:
    """A model of sets that answers drawings."""

    def __init__(self, few: FewShotModel):
        """Raises a UserError for a model without latents that a set shares."""
        if not few.model.shared_nodes:
            raise UserError(f"the model {few.name!r} has no latents that a set shares: the demo needs another")
        self.few = few
        self._run = jax.jit(self._traced, static_argnums=0)
        self._scores = few.program("classify", num_samples=SAMPLES[0], num_samples_z=SAMPLES[1])

    def warm_up(self) -> None:
        """Compiles what a first drawing needs."""
        blank = np.zeros((1, *self.few.image_shape), np.float32)
        self.new(blank, AT_ONCE)
        self.attention(blank)
        self.log_likelihoods([blank], blank)

    def warm_up_the_rest(self) -> None:
        """Compiles the others."""
        blank = np.zeros((1, *self.few.image_shape), np.float32)
        self.between(blank, blank)
        self.new(blank, AT_ONCE, "refined")

    def new(self, images: np.ndarray, num: int, mode: str = "conditional", temperature: float = 1.0, seed: int = 0):
        """New images of the class of ``images`` ``[N, H, W, C]``: ``[frames, num, H, W, C]``.

        ``refined`` gives a frame per iteration, ``conditional`` a single one.
        """
        program, sets = self._film if mode == "refined" else self._sample, ragged([images], SHOTS)
        runs = -(-num // AT_ONCE)
        keys = [jax.random.fold_in(jax.random.key(seed), run) for run in range(runs)]
        found = [self._run(program, self.few.variables, sets, key, temperatures(temperature)) for key in keys]
        return np.concatenate(jax.device_get(found), 1)[:, :num]

    def between(self, a: np.ndarray, b: np.ndarray, temperature: float = 1.0, seed: int = 0) -> np.ndarray:
        """Images on the way from the latents of one set to those of another: ``[ROWS, STEPS, H, W, C]``."""
        look = ragged([a, b], SHOTS), jax.random.key(seed), temperatures(temperature)
        return np.asarray(self._run(self._between, self.few.variables, *look))

    def log_likelihoods(self, sets: Sequence[np.ndarray], queries: np.ndarray) -> np.ndarray:
        """log p(query | set), nats: ``[queries, sets]``; one or two sets, estimated by samples of c and z."""
        rows = [*sets, sets[0]][:2]
        key, program = jax.random.key(0), self._scores
        found = [program(self.few.variables, ragged(rows, SHOTS), jnp.asarray(query[None]), key) for query in queries]
        return np.concatenate(jax.device_get(found))[:, : len(sets)]

    def attention(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        """Weights of the images, ``[N]``, mean of the heads: layer of c -> weights; empty without attention."""
        found = self._run(self._attention, self.few.variables, ragged([images], SHOTS))
        return {label: np.asarray(weights)[: len(images)] for label, weights in found.items()}

    def _traced(self, program, variables, *inputs):
        return program(*sampling.bind(self.few.model, variables), *inputs)

    def _sample(self, apply, encode, sets, key, temperature):
        return sampling.conditional(apply, sets, AT_ONCE, key, encode=encode, temperature=temperature)[0]

    def _film(self, apply, encode, sets, key, temperature):
        start_key, key = jax.random.split(key)
        settings = dict(encode=encode, temperature=temperature)
        mean, drawn = sampling.conditional(apply, sets, AT_ONCE, start_key, **settings)
        frames, _ = sampling.refine(apply, sets, AT_ONCE, key, num_iterations=ITERATIONS, start=drawn, **settings)
        return jnp.concatenate([mean, frames[0].swapaxes(0, 1)])

    def _between(self, apply, encode, sets, key, temperature):
        trace = apply(sets, Plan(), key, features=encode(sets), temperature=temperatures(0.0))
        ends = {latent.label: latent.value for latent in trace.shared}
        blank = sampling.blank_sets(1, ROWS, self.few.image_shape)

        def at(t):
            given = {label: (1 - t) * value[:1] + t * value[1:] for label, value in ends.items()}
            px = apply(blank, PRIOR, key, given=given, temperature=temperature).px
            return sampling.mean_and_draw(px, key)[0][0]

        return jax.vmap(at, out_axes=1)(jnp.linspace(0, 1, STEPS))

    def _attention(self, apply, encode, sets):
        trace = apply(sets, Plan(), jax.random.key(0), features=encode(sets), temperature=temperatures(0.0))
        return {x.label: x.weights[0].mean(-1) for x in trace.latents if x.weights is not None}
