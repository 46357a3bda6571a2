"""A trained model as one object, NumPy in and out."""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hfsgm_jax import classification, objectives, run_folder, sampling
from hfsgm_jax.devices import use_compilation_cache
from hfsgm_jax.errors import ConfigError, UserError, check_choice
from hfsgm_jax.images import File, model_images, read_images
from hfsgm_jax.keys import LARGEST
from hfsgm_jax.models import SetModel
from hfsgm_jax.trace import PLATES, Plan, Sets, as_batch

DRAWINGS = "omniglot", "strokes"  # sources of light strokes on dark ground
MODES = (*sampling.CONDITIONAL, "unconditional")


def load(run: str | os.PathLike, step: str | int = "best", model: SetModel | None = None) -> "FewShotModel":
    """Opens a trained model: its config and its variables, no data.

    Args:
      run: a name of `hfsgm_jax.pretrained()`, or the folder of train.py, of `FewShotModel.save` or of `export`.
      step: ``best``, ``last`` or a number; a saved model has one step.
      model: the Flax module, if it was put together by hand.

    Raises:
      UserError: no such run or checkpoint, or an unreadable one.
    """
    found = run_folder.open_run(run, step, model=model)
    data, drawings = found.config.data, None
    if data.source in DRAWINGS and found.model.image_shape[-1] == 1:  # not of coloured pens
        drawings = data.resize
    elif data.ink:
        drawings = "ink"
    return FewShotModel(found.model, found.variables, found.step, drawings)


class FewShotModel:
    """A trained few-shot generative model.

    Images are ``[N, H, W, C]`` or ``[N, H, W]``, uint8 in 0..255 or float in [0, 1], of the size
    and channels of the training data, ink (or light) high. Grey values are kept: a Bernoulli
    likelihood takes them as means of pixels (see `log_likelihood`).
    Every method is compiled once per number of images (and of samples). All of them raise a
    `UserError` for images the model cannot take; ``resize=True`` converts images of another form.

    Attributes:
      model, variables: a Flax module and its variables.
      step: training step of the variables.
      image_shape: (H, W, C) of its images.
      drawings: what `read` makes of image files, see `images.read_images`.
    """

    def __init__(self, model: SetModel, variables: Mapping[str, Any], step: int = 0, drawings: str | None = None):
        use_compilation_cache()
        self.model, self.variables, self.step, self.drawings = model, dict(variables), step, drawings
        self.image_shape = model.image_shape
        self.name = dict(model.made_of).get("name", "custom")

    def __repr__(self) -> str:
        size = "x".join(map(str, self.image_shape))
        return f"FewShotModel({self.name}, {size} images, step {self.step})"

    def save(self, folder: str | os.PathLike, dtype: str = "float32") -> list[Path]:
        """Writes a folder that `load` opens; ``dtype``: ``float32``, or ``bfloat16`` for half the size.

        Raises:
          UserError: a model put together by hand, or the folder of a run.
        """
        if not self.model.made_of:
            raise ConfigError("a model put together by hand has no keywords to save: use models.constructor")
        config = run_folder.config_of(self.model)
        if self.drawings == "ink":
            config.data.ink = True
        elif self.drawings:
            config.data.update(source=DRAWINGS[0], resize=self.drawings)
        return run_folder.save_weights(folder, config, self.variables, self.step, dtype)

    def read(self, files: File | Sequence[File]) -> np.ndarray:
        """Image files as this model takes them, ``[N, H, W, C]`` in [0, 1]; see `images.read_images`."""
        return read_images(files, self.image_shape, self.drawings)

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
            the paper's eq. 6), ``refined`` (Algorithm 1, from conditional draws on) or ``unconditional``
            (each image of an imagined class of its own).
          draw: draws from p(x | latents) instead of its means, which of autoregressive pixels are those given the
            pixels of one draw before each.
          temperature: factor on the noise of the latents, for all or per plate (``set``, ``image``); 1 if None.
          num_iterations: of refinement.

        Returns:
          ``[num, H, W, C]`` float32 in [0, 1].
        """
        check_choice("mode", mode, MODES)
        _check_whole(seed=seed, num=num, num_iterations=num_iterations)
        noise, key = temperatures(temperature), jax.random.key(seed)
        if mode == "unconditional":
            if images is not None:
                raise UserError("mode='unconditional' looks at no images: pass None, or use mode='conditional'")
            static = dict(num=num, draw=draw, shape=self.image_shape)
            out = self.compute(_unconditional, key, temperature=noise, **static)
        else:
            self._require_context(f"mode={mode!r}")
            if images is None:
                raise UserError(f"mode={mode!r} needs images; mode='unconditional' does without")
            static = dict(mode=mode, num=num, draw=draw)
            static |= dict(num_iterations=num_iterations) if mode == "refined" else {}
            out = self.compute(_sample, self._sets(images, resize), key, temperature=noise, **static)
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
        _check_whole(seed=seed, num_samples=num_samples)
        sets = self._sets(images, resize)
        if not self.model.shared_nodes:  # no latent is shared: images are independent, and one bound each is tighter
            sets = Sets.of(jnp.swapaxes(sets.images, 0, 1))
        keys = jax.random.split(jax.random.key(seed), sets.num_rows)
        bounds = self.compute(_likelihood, sets, keys, num_samples=num_samples)
        return float(np.asarray(bounds, np.float64).sum())

    def embed(self, images: np.ndarray, *, resize: bool = False) -> np.ndarray:
        """The set as one flat vector: means of q(c_l | X) of all layers, top first, without noise."""
        self._require_context("embed")
        return np.asarray(self.compute(_embed, self._sets(images, resize), temperature=temperatures(0.0)), np.float32)

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
        classification.check_styles(self.model)
        if not isinstance(supports, Mapping) or len(supports) < 2:
            given = f"{len(supports)} class" if isinstance(supports, Mapping) else type(supports).__name__
            raise UserError(f"classify needs images of 2 or more classes, as {{name: images}}, not {given}")
        _check_whole(seed=seed, num_samples=num_samples, num_samples_z=num_samples_z)
        static = dict(num_samples=num_samples, num_samples_z=num_samples_z)
        images = [self._named_images(f"class {name!r}", value, resize) for name, value in supports.items()]
        queries = self._named_images("queries", queries, resize)
        scores = self.compute(class_scores, ragged(images), queries, jax.random.key(seed), **static)
        log_probs = np.asarray(jax.nn.log_softmax(scores, axis=1), np.float32)
        names = list(supports)
        return [names[best] for best in log_probs.argmax(1)], log_probs

    def compute(self, function: Callable, *args: Any, temperature: sampling.Temperature = None, **static: Any) -> Any:
        """``function(apply, encode, *args, **static)`` with this model at a temperature; compiled once per shape."""
        return _compute(self.model, function, tuple(sorted(static.items())), self.variables, temperature, *args)

    def _require_context(self, what: str) -> None:
        if not self.model.shared_nodes:
            told = "has none: use mode='unconditional', or train a model with set latents"
            raise UserError(f"{what} needs a context, and a model {self.name!r} {told}")

    def _sets(self, images: np.ndarray, resize: bool) -> Sets:
        return Sets.of(jnp.asarray(model_images(images, self.image_shape, resize))[None])

    def _named_images(self, name: str, images: np.ndarray, resize: bool) -> np.ndarray:
        try:
            return model_images(images, self.image_shape, resize)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None


# --- what is compiled: functions of (apply, encode, ...), see `FewShotModel.compute` --------------


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _compute(model, function, static, variables, temperature, *args):
    return function(*sampling.bind(model, variables, temperature), *args, **dict(static))


def class_scores(apply, encode, supports, queries, key, **static):
    """Log of the mean over c of p(query | c), ``[queries, classes]``; the order of the classes changes nothing."""
    static |= dict(classifiers=("log_mean",), shared_noise=True)
    return classification.scores(apply, encode, supports, queries, key, **static)["log_mean"]


def _sample(apply, encode, sets, key, mode, draw, **static):
    images = sampling.CONDITIONAL[mode](apply, encode, sets, key=key, **static)[int(draw)][0]  # (means, draws)
    return images[:, -1] if mode == "refined" else images


def _unconditional(apply, encode, key, num, draw, shape):
    return sampling.unconditional(apply, num, 1, shape, key)[int(draw)][:, 0]


def _likelihood(apply, encode, sets, keys, num_samples):
    def one(row, key):
        row = as_batch(row)
        return objectives.joint_bounds(apply, row, key, (num_samples,), features=encode(row))[0, 0]

    return jax.vmap(one)(sets, keys)


def _embed(apply, encode, sets):
    trace = apply(sets, Plan(), jax.random.key(0))
    return jnp.concatenate([x.posterior.mean()[0].ravel() for x in trace.shared])


def ragged(images: Sequence[np.ndarray], slots: int = 0) -> Sets:
    """Sets of different sizes as one batch, a row of ``slots`` each (0: as many as the largest has)."""
    sizes = np.array([len(x) for x in images])
    padded = np.zeros((len(images), slots or sizes.max(), *images[0].shape[1:]), np.float32)
    for row, x in zip(padded, images):
        row[: len(x)] = x
    return Sets.of(jnp.asarray(padded), np.arange(padded.shape[1]) < sizes[:, None])


def temperatures(value: float | Mapping[str, float] | None) -> dict[str, jax.Array]:
    """One factor per plate, checked; 1 unless given."""
    given = value if isinstance(value, Mapping) else dict.fromkeys(PLATES, 1.0 if value is None else value)
    for plate, factor in given.items():
        if plate not in PLATES or not (isinstance(factor, Real) and 0 <= factor < float("inf")):
            raise UserError(f"temperature is a number from 0, or one each of {', '.join(PLATES)}, not {value!r}")
    return {plate: jnp.float32(given.get(plate, 1.0)) for plate in PLATES}


def _check_whole(**values: int) -> None:
    for name, value in values.items():
        least = 0 if name == "seed" else 1
        if not isinstance(value, Integral) or not least <= value <= LARGEST:
            raise UserError(f"{name}={value!r}: it is a whole number of at least {least} and at most {LARGEST}")
