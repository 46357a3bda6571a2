"""What a notebook needs: a trained model as one object, NumPy in and out."""

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hfsgm_jax import sampling
from hfsgm_jax.images import model_images
from hfsgm_jax.run_folder import Run, open_run
from hfsgm_jax.trace import IMAGE, SET, Plan, Sets

MODES = ("conditional", "one_pass", "refined", "unconditional")


def load(run: str | os.PathLike, step: str | int = "best") -> "FewShotModel":
    """Opens a trained model; reads the run's ``config.json`` and one checkpoint, and no data.

    Args:
      run: folder written by train.py.
      step: ``best`` (by validation NELBO), ``last`` or a number.

    Raises:
      ConfigError, CheckpointError: (ValueErrors) no such run or checkpoint, or not readable.
    """
    return FewShotModel(open_run(run, step))


class FewShotModel:
    """A trained few-shot generative model.

    Images are ``[N, H, W, C]`` or ``[N, H, W]``, uint8 in 0..255 or float in [0, 1], of the size
    and channels of the training data, ink (or light) high. Grey values are kept: a Bernoulli
    likelihood takes them as means of pixels, so that log p(x) is the expectation over binary ones.
    Every method is compiled once per number of images (and of samples). All of them raise a
    ValueError for images the model cannot take; ``resize=True`` converts what it can.

    Attributes:
      config: of the run.
      step: training step of the checkpoint.
      image_shape: (H, W, C) of its images.
    """

    def __init__(self, run: Run):
        self.config, self._model, self._variables, self.step = run
        self.image_shape = run.image_shape
        self._programs: dict[tuple, Callable] = {}

    def __repr__(self) -> str:
        size = "x".join(map(str, self.image_shape))
        return f"FewShotModel({self.config.model.name}, {size} images, step {self.step})"

    def generate(
        self,
        images: np.ndarray | None,
        num: int = 16,
        mode: str = "conditional",
        seed: int = 0,
        *,
        draw: bool = False,
        temperature: float | Mapping[str, float] | None = None,
        num_iterations: int = 10,
        resize: bool = False,
    ) -> np.ndarray:
        """New images: of the class of ``images``, or of no class in particular.

        Args:
          images: the context, 1 or more images; None for ``unconditional``.
          num: how many new images.
          mode: ``conditional`` (shared latents from their posterior), ``one_pass`` (the top one only,
            the paper's eq. 6), ``refined`` (Algorithm 1) or ``unconditional`` (each image of an
            imagined class of its own).
          draw: draws from p(x | latents) instead of its means.
          temperature: factor on the noise of the latents, for all or per plate (``set``, ``image``); 1 if None.
          num_iterations: of refinement.

        Returns:
          ``[num, H, W, C]`` float32 in [0, 1].
        """
        if mode not in MODES:
            raise ValueError(f"mode is one of {', '.join(MODES)}, not {mode!r}")
        if num < 1 or num_iterations < 1:
            raise ValueError(f"num and num_iterations are at least 1, not {num} and {num_iterations}")
        settings = dict(temperature=_temperature(temperature))
        key = jax.random.key(seed)
        if mode == "unconditional":
            if images is not None:
                raise ValueError("mode='unconditional' looks at no images: pass None, or use mode='conditional'")
            out = self._program("unconditional", num=num, draw=draw)(self._variables, key, **settings)
        else:
            self._require_context(f"mode={mode!r}")
            if images is None:
                raise ValueError(f"mode={mode!r} needs images; mode='unconditional' does without")
            static = dict(num=num, draw=draw) | (dict(num_iterations=num_iterations) if mode == "refined" else {})
            out = self._program(mode, **static)(self._variables, self._sets(images, resize), key, **settings)
        return np.asarray(out, np.float32)

    def log_likelihood(
        self, images: np.ndarray, num_samples: int = 100, seed: int = 0, *, resize: bool = False
    ) -> float:
        """Lower bound on log p(images) of the whole set, nats (joint importance-weighted bound).

        Args:
          images: one set; divide by their number for nats per image.
          num_samples: K; the bound grows with it.
        """
        if num_samples < 1:
            raise ValueError(f"num_samples is at least 1, not {num_samples}")
        sets = self._sets(images, resize)
        if not self._plates:  # no latent is shared: images are independent, and one bound each is tighter
            sets = Sets.of(jnp.swapaxes(sets.images, 0, 1))
        keys = jax.random.split(jax.random.key(seed), sets.num_rows)
        bounds = self._program("likelihood", num_samples=num_samples)(self._variables, sets, keys)
        return float(np.asarray(bounds, np.float64).sum())

    def embed(self, images: np.ndarray, *, resize: bool = False) -> np.ndarray:
        """The set as one flat vector: means of q(c_l | X) of all layers, top first, without noise."""
        self._require_context("embed")
        return np.asarray(self._program("embed")(self._variables, self._sets(images, resize)), np.float32)

    @functools.cached_property
    def _plates(self) -> tuple[str, ...]:
        """The shared plates of the model; () for a VAE. Traces, computes nothing."""

        def plates(variables, images, key):
            apply, _ = sampling.bind(self._model, variables)
            trace = apply(Sets.of(images), Plan(), key)
            found.extend(latent.plate for latent in trace.latents if latent.plate != IMAGE)

        found: list[str] = []
        images = jax.ShapeDtypeStruct((1, 1, *self.image_shape), jnp.float32)
        jax.eval_shape(plates, self._variables, images, jax.random.key(0))
        return tuple(dict.fromkeys(found))

    def _require_context(self, what: str) -> None:
        if not self._plates:
            raise ValueError(
                f"{what} needs a context, and a model {self.config.model.name!r} has none: its latents belong to "
                "single images. Use mode='unconditional', or train a model with set latents"
            )

    def _sets(self, images: np.ndarray, resize: bool) -> Sets:
        return Sets.of(jnp.asarray(model_images(images, self.image_shape, resize))[None])

    def _program(self, name: str, **static: Any) -> Callable:
        """The jitted method ``_NAME(variables, ...)`` with its static arguments; compiled once per shape."""
        key = (name, *sorted(static.items()))
        if key not in self._programs:
            self._programs[key] = jax.jit(functools.partial(getattr(self, f"_{name}"), **static))
        return self._programs[key]

    def _conditional(self, variables, sets, key, temperature, **static):
        apply, encode = sampling.bind(self._model, variables)
        return sampling.conditional(apply, sets, key=key, encode=encode, temperature=temperature, **static)[0]

    def _one_pass(self, variables, sets, key, temperature, **static):
        apply, _ = sampling.bind(self._model, variables)
        return sampling.one_pass(apply, sets, key=key, temperature=temperature, **static)[0]

    def _refined(self, variables, sets, key, temperature, **static):
        apply, encode = sampling.bind(self._model, variables)
        return sampling.refine(apply, sets, key=key, encode=encode, temperature=temperature, **static)[0]

    def _unconditional(self, variables, key, temperature, num, draw):
        apply, _ = sampling.bind(self._model, variables)
        settings = dict(temperature=temperature, draw=draw)
        return sampling.unconditional(apply, num, 1, self.image_shape, key, **settings)[:, 0]

    def _likelihood(self, variables, sets, keys, num_samples):
        from hfsgm_jax.evaluation.likelihood import set_likelihoods

        return -set_likelihoods(self._model, variables, sets, keys, num_samples)["nll"]

    def _embed(self, variables, sets):
        apply, _ = sampling.bind(self._model, variables)
        plates = {IMAGE: 0.0} | dict.fromkeys(self._plates, 0.0)
        trace = apply(sets, Plan(), jax.random.key(0), temperature=plates)
        means = [latent.posterior.mean() for latent in trace.latents if latent.plate != IMAGE]
        return jnp.concatenate([mean[0].ravel() for mean in means])


def _temperature(value: float | Mapping[str, float] | None) -> dict[str, jax.Array]:
    """One factor per plate, checked; 1 unless given."""
    given = value if isinstance(value, Mapping) else dict.fromkeys((SET, IMAGE), 1.0 if value is None else value)
    for plate, factor in given.items():
        if plate not in (SET, IMAGE) or not 0 <= factor < float("inf"):
            raise ValueError(
                f"temperature is a number of at least 0, or maps {SET!r} and {IMAGE!r} to one each, not {value!r}"
            )
    return {plate: jnp.float32(given.get(plate, 1.0)) for plate in (SET, IMAGE)}
