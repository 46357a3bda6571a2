"""What an evaluation is given: a trained model, its options, its data, and one way to compute on many rows."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import PartitionSpec

from hfsgm_jax import mesh as mesh_lib
from hfsgm_jax import processes, sampling
from hfsgm_jax.evaluation.journal import Journal, code_of, digest
from hfsgm_jax.evaluation.progress import progress
from hfsgm_jax.trace import IMAGE, Sets

ESTIMATORS = ("joint", "nested")
AT_LEAST_ONE = (
    "importance_samples importance_samples_z chunk sets_per_batch episodes queries class_samples_c class_samples_z "
    "iterations samples"
).split()
# Facts about a data set that some sources add to its `info`, and that give a number its meaning.
OPTIONAL_INFO = ("tfds_splits", "composed_of", "styles")


class EvaluationError(ValueError):
    """What was asked for cannot be evaluated; the message says what to change."""


class NotApplicable(EvaluationError):
    """The task has no meaning for this model or run; the message says why."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A run to evaluate.

    Attributes:
      workdir: the run's folder.
      config: its whole config, overrides applied.
      model, variables: the Flax module and its (EMA) variables.
      step: training step of the checkpoint.
      weights: what the variables were rounded to when the run was exported.
    """

    workdir: Path
    config: ml_collections.ConfigDict
    model: Any
    variables: Any
    step: int
    weights: str = "float32"

    @property
    def options(self) -> ml_collections.ConfigDict:
        """The config's section ``eval``."""
        return self.config.eval

    @property
    def folder(self) -> Path:
        """Where results and pictures go."""
        return self.workdir / "eval"

    @property
    def set_size(self) -> int:
        """Images per set: ``eval.set_size``, or the (largest) training size."""
        return self.options.set_size or self.train_set_size

    @property
    def train_set_size(self) -> int:
        return int(np.max(self.config.data.set_size))

    @property
    def shared_nodes(self) -> tuple[Any, ...]:
        """The model's latent nodes that a set shares (c), top first; none for a VAE."""
        return tuple(node for node in self.model.nodes if node.plate != IMAGE)

    def require_context(self, what: str) -> None:
        """Raises NotApplicable for a model without latents shared by a set."""
        if not self.shared_nodes:
            raise NotApplicable(
                f"{what} is about latents that a set shares, and model.name={self.config.model.name!r} has none"
            )

    def require_images(self, what: str) -> None:
        """Raises NotApplicable for models of single numbers (the 1D study)."""
        if tuple(self.config.image_shape[:2]) == (1, 1):
            raise NotApplicable(f"{what} is about images, and this model is of single numbers")

    # --- data ---------------------------------------------------------------------------------

    @functools.cached_property
    def _datasets(self) -> dict:
        return {}

    def load(self, split: str | None = None, source: str | None = None) -> Any:
        """The images of a split of a source, read once; default: ``eval.split`` of ``eval.source``.

        Raises:
          DataError: they are missing, or there is no such split or source; says what to do.
        """
        from hfsgm_jax.data import load_dataset

        key = split or self.options.split, source or self.options.source
        if key not in self._datasets:
            read = functools.partial(load_dataset, self.config.data, key[0], source=key[1])
            self._datasets[key] = processes.writer_first(read, "data")
        return self._datasets[key]

    @property
    def dataset(self) -> Any:
        """The images of ``eval.split``."""
        return self.load()

    def fixed_sets(self, dataset: Any, set_size: int, max_sets: int | None = None) -> Any:
        """Sets (a `data.Batch` of host arrays) drawn and binarised once by ``eval.seed``."""
        from hfsgm_jax.data import fixed_sets

        options = self.options
        max_sets = options.max_sets if max_sets is None else max_sets
        return fixed_sets(dataset, set_size, max_sets, options.seed, self.config.data.binarize)

    @functools.cached_property
    def all_sets(self) -> Any:
        """The sets of `set_size` images that most tasks evaluate."""
        return self.fixed_sets(self.dataset, self.set_size)

    def sets(self) -> Sets:
        """`all_sets` as `Sets`, whose every image is context and target."""
        return sets_of(self.all_sets)

    def check_sets(self, dataset: Any = None, sizes: Sequence[int] | None = None) -> None:
        """Raises an EvaluationError where no set can have as many images.

        A class with fewer images than a set gives one set of all of them (`fixed_sets`), so that only one that is
        larger than every class is refused. Of ``sizes``, where a result is about its size, every set has that many:
        none may be larger than the smallest class.
        """
        dataset = self.dataset if dataset is None else dataset
        if sizes is None:
            key, sizes, which, limit = "set_size", [self.set_size], "largest", np.max(dataset.size)
        else:
            key, which, limit = "set_sizes", "smallest", np.min(dataset.size)
        if max(sizes) > limit:
            raise EvaluationError(
                f"eval.{key} asks for sets of {max(sizes)} images, but the {which} class of {dataset.info['source']} "
                f"({dataset.info['split']}) has {limit} images; use --eval.{key} of {limit} or less"
            )

    # --- computation --------------------------------------------------------------------------

    def each(
        self, label: str, one: Callable, rows: Any, *, images_per_row: int | None = None, first: int = 0, **static: Any
    ) -> dict[str, np.ndarray]:
        """What ``one`` computes of every row, in batches of one compiled shape spread over all processes' devices.

        Every row has its own key and sees no other row, so that its result depends neither on its
        batch nor on the devices. Finished batches are kept on disk until the task ends: after an
        interruption they are not computed again. Compiled once per function, options and shape.

        Args:
          label: what the progress line says.
          one: ``(apply, encode, row, key, **static) -> dict of arrays``; a module-level function. ``apply``
            and ``encode`` are those of `sampling.bind`; ``row`` has no row axis (`as_batch` adds one).
          rows: pytree of arrays with a leading axis of rows, such as `Sets`.
          images_per_row: how many images one row costs, to choose the rows of a batch: as many images
            as ``eval.sets_per_batch`` sets of the training size. Default: slots of `Sets`.
          first: number of the first row, where the rows are part of more: each has the key of its number.
          static: hashable options of ``one``.

        Returns:
          Its dict, every array with a leading axis of rows.
        """
        total = len(jax.tree.leaves(rows)[0])
        images = images_per_row or rows.num_slots
        devices = self._mesh.size
        size = min(max(1, self.options.sets_per_batch * self.train_set_size // images), total)
        size = -(-size // devices) * devices
        program = self._program(one, static)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(self.options.seed), first + jnp.arange(total))
        name = (self._fingerprint, one.__module__, one.__qualname__, repr(sorted(static.items())), self.options.seed)
        name += (code_of(one),)
        found = []
        for start in progress(range(0, total, size), label):
            index = np.minimum(np.arange(start, start + size), total - 1)  # the last batch repeats a row
            batch = jax.tree.map(lambda x, index=index: np.asarray(x)[index], rows)
            part = digest(*name, first + index, batch)
            result = self.journal.recall(part)
            if not processes.all_agree(result is not None):
                rows_and_keys = mesh_lib.place((batch, keys[index]), mesh_lib.by_rows(self._mesh))
                result = jax.device_get(program(self._replicated, *rows_and_keys))
                self.journal.keep(part, result)
            found.append(result)
        return {name: np.concatenate([result[name] for result in found])[:total] for name in found[0]}

    @functools.cached_property
    def journal(self) -> Journal:
        """Finished batches of unfinished tasks."""
        return Journal(self.folder / "unfinished")

    @functools.cached_property
    def _programs(self) -> dict:
        return {}

    @functools.cached_property
    def _mesh(self) -> jax.sharding.Mesh:
        # Results do not depend on the devices: a run trained on more of them is evaluated on those there are.
        return mesh_lib.make_mesh(min(self.config.train.devices, jax.device_count()) if processes.alone() else 0)

    @functools.cached_property
    def _replicated(self) -> Any:
        return mesh_lib.place(self.variables, mesh_lib.replicated(self._mesh))

    @functools.cached_property
    def _fingerprint(self) -> str:
        return digest(self.variables)

    def _program(self, one: Callable, static: dict[str, Any]) -> Callable:
        key = one, tuple(sorted(static.items()))
        if key not in self._programs:

            def run(variables, rows, keys):
                apply, encode = sampling.bind(self.model, variables)
                return jax.vmap(lambda row, key: one(apply, encode, row, key, **static))(rows, keys)

            # shard_map, not a sharding constraint: no row needs another, so devices need not talk.
            whole, by_row = PartitionSpec(), PartitionSpec("data")
            specs = dict(mesh=self._mesh, in_specs=(whole, by_row, by_row), out_specs=by_row, check_vma=False)
            # Every process gets the results of all rows.
            self._programs[key] = jax.jit(jax.shard_map(run, **specs), out_shardings=mesh_lib.replicated(self._mesh))
        return self._programs[key]

    # --- options and conditions ---------------------------------------------------------------

    def check(self) -> None:
        """Checks the options that do not depend on data, before any computation.

        Raises:
          EvaluationError: options out of range, one per line.
        """
        options, problems = self.options, []
        for key in AT_LEAST_ONE:
            if options[key] < 1:
                problems.append(f"eval.{key} is {options[key]}; it is at least 1")
        if options.set_size < 0:
            problems.append(f"eval.set_size is {options.set_size}; it is a number of images (0: the training size)")
        if options.max_sets < 0:
            problems.append(f"eval.max_sets is {options.max_sets}; it is a number of sets (0: all there are)")
        for key in ("set_sizes", "shots"):
            if not options[key] or min(options[key]) < 1:
                problems.append(f"eval.{key} is {tuple(options[key])}; it is one or more numbers of images, at least 1")
        if options.ways < 2:
            problems.append(f"eval.ways is {options.ways}; it is a number of classes, at least 2")
        if options.estimator not in ESTIMATORS:
            problems.append(f"eval.estimator is one of {', '.join(ESTIMATORS)}, not {options.estimator!r}")
        if not 0 <= options.temperature < float("inf"):
            problems.append(f"eval.temperature is {options.temperature}; it is a factor of at least 0")
        if problems:
            raise EvaluationError("\n".join(problems))

    @property
    def run_conditions(self) -> dict[str, Any]:
        """What every record is keyed by, whatever its data."""
        rounded = {} if self.weights == "float32" else {"weights": self.weights}
        return {
            "binarize": self.config.data.binarize,
            "seed": self.options.seed,
            "step": self.step,
            "dtype": self.config.model.dtype,
            **rounded,
        }

    @staticmethod
    def data_conditions(dataset: Any, batch: Any = None) -> dict[str, Any]:
        """What a record of these images (and these sets of them) is keyed by."""
        info = dataset.info
        keys = "source", "split", "scheme", "resize", "image_size", "sha256"
        out = {key: info[key] for key in keys} | {key: info[key] for key in OPTIONAL_INFO if key in info}
        if batch is not None:
            out |= {"set_size": batch.mask.shape[1], "num_sets": len(batch.mask)}
        return out


def sets_of(batch: Any) -> Sets:
    """A `data.Batch` as `Sets` of host arrays in [0, 1]; every image is context and target."""
    sets = Sets.of(np.asarray(batch.images, np.float32), batch.mask, class_size=batch.class_size)
    return jax.tree.map(np.asarray, sets)


def as_batch(row: Any) -> Any:
    """A row of `Evaluation.each` as a batch of one."""
    return jax.tree.map(lambda x: x[None], row)
