"""The run that an evaluation is a function of: a trained model, its options, its data, and computation over rows."""

import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
import tqdm

from hfsgm_jax import data, devices, processes
from hfsgm_jax.config import FREE_KEYS, KEYS, nearest_key
from hfsgm_jax.data import Dataset
from hfsgm_jax.distributions import LIKELIHOODS
from hfsgm_jax.errors import ConfigError, NotApplicable, UserError, hint
from hfsgm_jax.rows import each_row
from hfsgm_jax.run_folder import open_run
from hfsgm_jax.trace import SET, Sets

Arrays = dict[str, jax.Array]  # results of a row
Results = dict[str, np.ndarray]  # of rows
OVERRIDES = {name: key for name, key in KEYS.items() if name.startswith("eval.") or name in FREE_KEYS}
SECONDS = 10.0  # between lines of progress
# Facts about a data set (its `info`, some of them of some sources only) that give a number its meaning.
INFO = ("source", "split", "scheme", "resize", "image_size", "sha256", "tfds_splits", "composed_of", "styles")


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """A run to evaluate.

    Attributes:
      workdir: the run's folder.
      config: its whole config, overrides applied.
      model, variables: the Flax module and its (EMA) variables.
      step: training step of the checkpoint.
      weights: dtype that the variables were rounded to when the run was exported.
      dataset: the user's own whole data in place of ``data.source``, or None.
    """

    workdir: Path
    config: ml_collections.ConfigDict
    model: Any
    variables: Any
    step: int
    weights: str = "float32"
    dataset: Dataset | None = None
    _datasets: dict[tuple[str, str], Dataset] = dataclasses.field(default_factory=dict, init=False, repr=False)

    @classmethod
    def open(
        cls, workdir: str | Path, overrides: Mapping[str, Any], dataset: Dataset | None = None, model: Any = None
    ) -> "Evaluation":
        """The evaluation of a run's folder.

        Args:
          overrides: ``"section.key"`` values over the run's config.
          dataset, model: of a run that was trained on the user's own data, or of the user's own model.

        Raises:
          ConfigError, CheckpointError: no such run, key, value or checkpoint.
        """
        for name in overrides.keys() - OVERRIDES.keys():
            near = hint(None if name in KEYS else nearest_key(name, OVERRIDES))
            raise ConfigError(f"{name} is not of an evaluation, which takes eval.KEY, data.data_dir, data.path{near}")
        devices.use_cpu_cores()
        return cls(Path(workdir), *open_run(workdir, overrides=overrides, model=model), dataset)

    @property
    def options(self) -> ml_collections.ConfigDict:
        """The config's section ``eval``."""
        return self.config.eval

    @property
    def set_size(self) -> int:
        """Images per set: ``eval.set_size``, or the (largest) training size."""
        return self.options.set_size or self.train_set_size

    @property
    def train_set_size(self) -> int:
        return int(np.max(self.config.data.set_size))

    # --- what a task needs --------------------------------------------------------------------

    def require_context(self, task: str) -> None:
        """Raises NotApplicable for a model without latents shared by a set."""
        if not self.model.shared_nodes:
            name = self.config.model.name
            raise NotApplicable(f"{task} is about latents that a set shares, and model.name={name!r} has none")

    def require_images(self, task: str) -> None:
        """Raises NotApplicable where the data are numbers, not 8-bit images."""
        if (dtype := self.load().images.dtype) != np.uint8:
            raise NotApplicable(f"{task} is about 8-bit images, and these data are {dtype}")

    def check_sets(self) -> None:
        """Raises a ConfigError where `set_size` is above every class: a smaller class gives a set of all its images."""
        info, largest = self.load().info, self.load().size.max()
        if self.set_size > largest:
            have = f"the largest class of {info['source']} ({info['split']}) has {largest} images"
            raise ConfigError(f"eval.set_size asks for sets of {self.set_size} images, but {have}")

    # --- data ---------------------------------------------------------------------------------

    def load(self, split: str | None = None, source: str | None = None) -> Dataset:
        """The images of a split of a source, read once; default: ``eval.split`` of ``eval.source``.

        Raises:
          DataError: they are missing, or there is no such split or source; says what to do.
        """
        key = split or self.options.split, source or self.options.source or self.config.data.source
        if key not in self._datasets:
            read = lambda: data.load_dataset(self.config.data, key[0], source=key[1], dataset=self.dataset)
            found = processes.writer_first(read, "data")
            data.check_levels(found, LIKELIHOODS[self.model.likelihood].levels, self.config.data.binarize)
            self._datasets[key] = found
        return self._datasets[key]

    def fixed_sets(self, dataset: Dataset, set_size: int, **other: Any) -> Sets:
        """Sets of host arrays, drawn and binarised once by ``eval.seed``; every image is context and target."""
        options = dict(max_sets=self.options.max_sets, seed=self.options.seed, binarize=self.config.data.binarize)
        return data.fixed_sets(dataset, set_size, **options | other)

    @functools.cached_property
    def sets(self) -> Sets:
        """The sets of `set_size` images of ``eval.split`` that most tasks evaluate; raises as `check_sets`."""
        self.check_sets()
        return self.fixed_sets(self.load(), self.set_size)

    def at_hand(self, task: str, parts: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
        """The ``parts`` that can be had, by name; for the others the reason is printed."""
        found = {}
        for name, get in parts.items():
            try:
                found[name] = get()
            except UserError as error:
                print(f"evaluate: {task} goes without {name}: {error}", file=sys.stderr)
        return found

    # --- conditions ---------------------------------------------------------------------------

    @property
    def run_conditions(self) -> dict[str, Any]:
        """Conditions of every record, whatever its data."""
        rounded = {} if self.weights == "float32" else {"weights": self.weights}
        dtype, binarize = self.config.model.get("dtype", "float32"), self.config.data.binarize
        return {"binarize": binarize, "seed": self.options.seed, "step": self.step, "dtype": dtype, **rounded}

    @staticmethod
    def data_conditions(dataset: Dataset, sets: Sets | None = None) -> dict[str, Any]:
        """Conditions of a record of these images (and these sets of them)."""
        conditions = {key: dataset.info[key] for key in INFO if key in dataset.info}
        if sets is None:
            return conditions
        there = int(np.maximum(dataset.size // sets.num_slots, 1).sum())  # sets of that size
        classes = len(np.unique(sets.ids[SET]))
        size = dict(set_size=sets.num_slots, num_sets=sets.num_rows, available_sets=there, num_classes=classes)
        return conditions | size

    # --- computation --------------------------------------------------------------------------

    def each(
        self, label: str, one: Callable, rows: Any, images_per_row: int = 0, reduce: Callable = dict, **static: Any
    ) -> Results:
        """The results of ``one`` for every row, see `rows.each_row`; the noise is that of ``eval.seed``.

        Args:
          label: of the progress line.
          one: ``(apply, encode, row, key, **static) -> dict of arrays``; a module-level function.
          rows: pytree of arrays with a leading axis of rows, such as `Sets`.
          images_per_row: that one row costs (0: slots of `Sets`): a batch has the rows of as many images as
            ``eval.sets_per_batch`` sets of the training size.
          reduce: makes of the results of a batch those that are kept: all need not fit into memory.
          static: hashable options of ``one``.

        Returns:
          Its dict, every array with a leading axis of rows (or of what ``reduce`` gives).
        """
        at_once = max(1, self.options.sets_per_batch * self.train_set_size // (images_per_row or rows.num_slots))
        how = dict(key=jax.random.key(self.options.seed), mesh=self._mesh, at_once=at_once)
        how["progress"] = functools.partial(_progress, label=label)
        found = [reduce(batch) for batch in each_row(one, static, self.model, self._replicated, rows, **how)]
        return jax.tree.map(lambda *parts: np.concatenate(parts), *found)

    @functools.cached_property
    def _mesh(self) -> jax.sharding.Mesh:
        # Results do not depend on the devices: a run trained on more of them is evaluated on those there are.
        return devices.make_mesh(min(self.config.train.devices, jax.device_count()) if processes.alone() else 0)

    @functools.cached_property
    def _replicated(self) -> Any:
        return devices.place(self.variables, devices.replicated(self._mesh))


def resolution(node: Any) -> int | None:
    """Side of a latent map in positions; None for a vector."""
    return node.event_shape[0] if len(node.event_shape) == 3 else None


def _progress(items: Sequence[int], label: str) -> Iterator[int]:
    """``items``, with a bar on a terminal; otherwise a line now and then, from the first of several processes."""
    writes, start = processes.is_writer(), time.monotonic()
    last, bar = start, tqdm.tqdm(items, label, unit="batch", disable=None if writes else True)  # None: by the terminal
    for done, item in enumerate(bar, 1):
        yield item
        if writes and bar.disable and time.monotonic() - last > SECONDS:
            last = time.monotonic()
            print(f"{label}: {done}/{len(items)} batches, {last - start:.0f} s", file=sys.stderr, flush=True)
