"""What a notebook needs: a trained model as one object, NumPy in and out."""

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hfsgm_jax import classification, sampling
from hfsgm_jax.images import ImageError, model_images
from hfsgm_jax.run_folder import Run, export, open_run
from hfsgm_jax.trace import IMAGE, PLATES, Plan, Sets

__all__ = ["MODES", "FewShotModel", "export", "load"]
MODES = ("conditional", "one_pass", "refined", "unconditional")


def load(run: str | os.PathLike, step: str | int = "best") -> "FewShotModel":
    """Opens a trained model; reads its ``config.json`` and its variables, and no data.

    Args:
      run: folder written by train.py, or by `export`.
      step: ``best`` (by validation NELBO), ``last`` or a number; an exported folder holds one step.

    Raises:
      ConfigError, CheckpointError, WeightsError: (ValueErrors) no such run or checkpoint, or not readable.
    """
    return FewShotModel(open_run(run, step))


class FewShotModel:
    """A trained few-shot generative model.

    Images are ``[N, H, W, C]`` or ``[N, H, W]``, uint8 in 0..255 or float in [0, 1], of the size
    and channels of the training data, ink (or light) high. Grey values are kept: a Bernoulli
    likelihood takes them as means of pixels (see `log_likelihood`).
    Every method is compiled once per number of images (and of samples). All of them raise a
    ValueError for images the model cannot take; ``resize=True`` converts what it can.

    Attributes:
      config: of the run.
      step: training step of the checkpoint.
      image_shape: (H, W, C) of its images.
    """

    def __init__(self, run: Run):
        self.config, self._model, self._variables, self.step, _ = run
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

        Of grey pixels, a Bernoulli likelihood gives the expectation over binary images that have them as means. With
        an autoregressive decoder (``model.pixelcnn_layers``) it does not: every pixel is then scored given the grey
        pixels before it, which training never showed; binarise them first.

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

    def classify(
        self,
        supports: Mapping[str, np.ndarray],
        queries: np.ndarray,
        num_samples: int = 20,
        num_samples_z: int = 10,
        seed: int = 0,
        *,
        resize: bool = False,
    ) -> tuple[list[str], np.ndarray]:
        """Names the class of every query, given a few images of each class.

        The score of a class is the log of the mean over c ~ q(c | its images) of p(query | c) (Variational
        Homoencoder, section 4); classes are equally likely beforehand. Queries do not see each other.

        Args:
          supports: name -> images of that class, 1 or more; 2 classes or more, not necessarily of one size.
          queries: images.
          num_samples: samples of c.
          num_samples_z: importance samples of an image's own latents, for each of c.

        Returns:
          The likeliest name of each query, and log-probabilities ``[queries, classes]`` float32 (nats, the classes
          in the order of ``supports``): of ``supports``' classes against each other, not of being any of them.
        """
        self._require_context("classify")
        if not isinstance(supports, Mapping) or len(supports) < 2:
            given = f"{len(supports)} class" if isinstance(supports, Mapping) else type(supports).__name__
            raise ValueError(f"classify needs images of 2 or more classes, as {{name: images}}, not {given}")
        if num_samples < 1 or num_samples_z < 1:
            raise ValueError(f"num_samples and num_samples_z are at least 1, not {num_samples} and {num_samples_z}")
        static = dict(num_samples=num_samples, num_samples_z=num_samples_z)
        images = [self._named_images(f"class {name!r}", value, resize) for name, value in supports.items()]
        queries = self._named_images("queries", queries, resize)
        scores = self._program("classify", **static)(self._variables, _ragged(images), queries, jax.random.key(seed))
        log_probs = np.asarray(jax.nn.log_softmax(scores, axis=1), np.float32)
        names = list(supports)
        return [names[best] for best in log_probs.argmax(1)], log_probs

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

    def _named_images(self, name: str, images: np.ndarray, resize: bool) -> np.ndarray:
        try:
            return model_images(images, self.image_shape, resize)
        except ImageError as error:
            raise ImageError(f"{name}: {error}") from None

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
        from hfsgm_jax.evaluation.likelihood import set_likelihood

        apply, encode = sampling.bind(self._model, variables)
        one = functools.partial(set_likelihood, apply, encode, samples=(num_samples,))
        return -jax.vmap(one)(sets, keys)["nll"][:, 0]

    def _classify(self, variables, supports, queries, key, **static):
        apply, encode = sampling.bind(self._model, variables)
        name = "log_mean"
        return classification.scores(apply, encode, supports, queries, key, classifiers=(name,), **static)[name]

    def _embed(self, variables, sets):
        apply, _ = sampling.bind(self._model, variables)
        plates = {IMAGE: 0.0} | dict.fromkeys(self._plates, 0.0)
        trace = apply(sets, Plan(), jax.random.key(0), temperature=plates)
        means = [latent.posterior.mean() for latent in trace.latents if latent.plate != IMAGE]
        return jnp.concatenate([mean[0].ravel() for mean in means])


def _ragged(images: list[np.ndarray]) -> Sets:
    """Sets of different sizes as one batch, a row each."""
    sizes = np.array([len(x) for x in images])
    padded = np.zeros((len(images), sizes.max(), *images[0].shape[1:]), np.float32)
    for row, x in zip(padded, images):
        row[: len(x)] = x
    return Sets.of(jnp.asarray(padded), np.arange(sizes.max()) < sizes[:, None])


def _temperature(value: float | Mapping[str, float] | None) -> dict[str, jax.Array]:
    """One factor per plate, checked; 1 unless given."""
    given = value if isinstance(value, Mapping) else dict.fromkeys(PLATES, 1.0 if value is None else value)
    for plate, factor in given.items():
        if plate not in PLATES or not 0 <= factor < float("inf"):
            raise ValueError(
                f"temperature is a number of at least 0, or maps plates to one each "
                f"({', '.join(PLATES)}), not {value!r}"
            )
    return {plate: jnp.float32(given.get(plate, 1.0)) for plate in PLATES}
