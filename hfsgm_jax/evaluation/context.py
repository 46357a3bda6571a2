"""What an evaluation is given: a trained model, its options and the sets to evaluate."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from hfsgm_jax.trace import Sets

ESTIMATORS = ("joint",)


class EvaluationError(ValueError):
    """What was asked for cannot be evaluated; the message says what to change."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A run to evaluate.

    Attributes:
      workdir: the run's folder.
      config: its whole config, overrides applied.
      model, variables: the Flax module and its (EMA) variables.
      step: training step of the checkpoint.
    """

    workdir: Path
    config: ml_collections.ConfigDict
    model: Any
    variables: Any
    step: int

    @property
    def options(self) -> ml_collections.ConfigDict:
        """The config's section ``eval``."""
        return self.config.eval

    @property
    def source(self) -> str:
        return self.options.source or self.config.data.source

    @property
    def set_size(self) -> int:
        """Images per set: ``eval.set_size``, or the (largest) training size."""
        return self.options.set_size or int(np.max(self.config.data.set_size))

    @functools.cached_property
    def dataset(self) -> Any:
        """The images of ``eval.split``.

        Raises:
          DataError: they are missing; says what to run.
        """
        from hfsgm_jax.data import load_dataset

        return load_dataset(self.config.data, self.options.split, source=self.options.source)

    @functools.cached_property
    def all_sets(self) -> Any:
        """The evaluation sets, each of `set_size` images, drawn and binarised once by ``eval.seed``."""
        from hfsgm_jax.data import fixed_sets

        data = self.config.data
        options = self.options
        return fixed_sets(self.dataset, self.set_size, options.max_sets, options.seed, data.binarize)

    def sets(self) -> Sets:
        """The evaluation sets as host arrays in [0, 1]; every image is context and target."""
        batch = self.all_sets
        return Sets.of(np.asarray(batch.images, np.float32), batch.mask, class_size=batch.class_size)

    def independent_pixels(self) -> float:
        """NLL of these images, nats per image, where every pixel has its mean over the training images."""
        from hfsgm_jax.data import independent_pixel_nll, load_dataset

        images = self.all_sets.images[self.all_sets.mask]
        return independent_pixel_nll(load_dataset(self.config.data, "train"), images)

    def check(self) -> None:
        """Checks options and data before any computation.

        Raises:
          EvaluationError: an option out of range, or classes smaller than the set.
        """
        options, problems = self.options, []
        for key in ("importance_samples", "chunk", "sets_per_batch"):
            if options[key] < 1:
                problems.append(f"eval.{key} is {options[key]}; it is at least 1")
        if options.set_size < 0:
            problems.append(f"eval.set_size is {options.set_size}; it is a number of images (0: the training size)")
        if options.max_sets < 0:
            problems.append(f"eval.max_sets is {options.max_sets}; it is a number of sets (0: all there are)")
        if options.estimator not in ESTIMATORS:
            problems.append(f"eval.estimator is one of {', '.join(ESTIMATORS)}, not {options.estimator!r}")
        if problems:
            raise EvaluationError("\n".join(problems))
        largest = int(np.max(self.dataset.size))
        if self.set_size > largest:
            raise EvaluationError(
                f"eval.set_size is {self.set_size}, but the largest class of {self.source} ({options.split}) has "
                f"{largest} images; use --eval.set_size={largest} or less"
            )

    def conditions(self) -> dict[str, Any]:
        """What every record of this evaluation is keyed by."""
        info, options = self.dataset.info, self.options
        return {
            **{key: info[key] for key in ("source", "split", "scheme", "resize", "image_size", "sha256")},
            "binarize": self.config.data.binarize,
            "set_size": self.set_size,
            "num_sets": len(self.all_sets.images),
            "seed": options.seed,
            "step": self.step,
            "dtype": self.config.model.dtype,
        }
