"""Everything that a training needs, made of a config: data, model, state, the compiled step, validation."""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from hfsgm_jax import config as config_lib
from hfsgm_jax import data, devices, processes
from hfsgm_jax.distributions import LIKELIHOODS
from hfsgm_jax.errors import ConfigError
from hfsgm_jax.models import abstract_variables, build_model
from hfsgm_jax.objectives import OBJECTIVES
from hfsgm_jax.run_folder import model_section, open_run
from hfsgm_jax.trace import Sets
from hfsgm_jax.training.optimizer import Optimizer
from hfsgm_jax.training.state import TrainState, init_state, start_from
from hfsgm_jax.training.step import BATCH_KEY, Batch, make_step, make_validation


class Setup:
    """A training that is ready to begin: `train`, own loops and benchmarks use the same.

        s = setup(config)
        state = s.state
        for batch in s.batches(0):
            state, metrics = s.step(state, batch)

    Attributes:
      config: resolved: with ``image_shape`` and ``train.steps_per_epoch``.
      model: Flax module.
      mesh: the devices.
      dataset: the training data.
      fixed_sets: the sets of the validation, host arrays.
      sample: ``(batch.data, key) -> Sets``, the sets that a step trains on.
      step: jitted ``(state, batch) -> (state, metrics)``, see `make_step`; the state given is donated.
      batches: step -> the batches of this step and those after it; close it to stop reading from disk.
      validate: ``state.variables -> {"val/objective": nats per image, ...}``.
      observe: ``(state, val/objective) -> state``, for the plateau schedule; the state given is donated.
      abstract_state: shapes, dtypes and shardings of the state.
    """

    def __init__(self, config: ConfigDict, dataset: data.Dataset | None = None, model: Any = None):
        """Checks a config, loads its data, and makes all that trains it; compiles nothing yet.

        Of several processes (`processes.start`) each calls it with the same arguments.

        Args:
          dataset: the user's own data in place of ``data.source``, split by ``data.split``.
          model: the user's own model in place of ``config.model``.

        Raises:
          ConfigError, DataError: something that the user has to change; where the config alone tells, before data are
            read.
        """
        config = _with_own(config, dataset, model)
        config_lib.check_config(config)
        shape = data.image_shape(config.data)
        shape = shape if dataset is None else (*dataset.image_shape[:2], shape[-1])
        self.model = model = build_model(config.model, shape) if model is None else model
        devices.use_compilation_cache()
        devices.use_cpu_cores(config.data.sets_per_batch // config.optimizer.accumulate, config.train.cpu_devices)
        self.mesh = mesh = devices.make_mesh(config.train.devices)
        _check_together(config, model, shape, mesh)

        objective = OBJECTIVES[config.objective.name]
        load = lambda: _load(config, model, objective.replace, dataset)
        spec, self.dataset, self.fixed_sets, drawn = processes.writer_first(load, "data")
        self.config = config = _resolved(config, spec, self.dataset)
        self.sample, self.batches = _sampling(self.dataset, spec, config, mesh)

        own = objective.init and functools.partial(objective.init, labels=self.dataset.label, sizes=self.dataset.size)
        optimizer = Optimizer(config.optimizer, config.train.steps)
        example = jax.tree.map(lambda x: x[:1], self.fixed_sets)
        init = lambda key: init_state(key, model, optimizer, config.optimizer.ema, example, own)
        whole = devices.replicated(mesh)
        self._create = devices.jit_once(init, out_shardings=whole)
        # Not threefry: hundreds of its draws, one per parameter, take longer to compile than the rest of a small run.
        self._init_key = devices.place(jax.random.key(config.seed, impl="unsafe_rbg"), whole)
        abstract_state = jax.eval_shape(self._create, self._init_key)
        self.abstract_state = jax.tree.map(lambda x: x.update(sharding=whole), abstract_state)
        devices.check_memory(self.abstract_state, mesh)

        measure = functools.partial(objective.sums, free_bits=config.objective.free_bits)
        # Parameters of an objective's own are those of training classes.
        measure_others = functools.partial(measure, params=None) if objective.init else measure
        self.step = make_step(model, measure, self.sample, optimizer, config, mesh)
        self.validate = make_validation(model, measure_others, self.fixed_sets, drawn, config, mesh)
        observe = lambda state, value: state.replace(opt_state=optimizer.observe(state.opt_state, value))
        observe = jax.jit(observe, out_shardings=whole, donate_argnums=0)
        self.observe = observe if optimizer.plateau else lambda state, _: state

    @property
    def state(self) -> TrainState:
        """A new state at step 0, made on the devices at every access; parameters of ``train.start``, if any."""
        state, start = self._create(self._init_key), self.config.train.start
        return start_from(state, open_run(start, model=self.model).variables) if start else state


setup = Setup  # the name under which it is called


def dry_run(s: Setup) -> str:
    """A line on this process's part of every step and, by the compiled step, what a device of it needs."""
    with contextlib.closing(s.batches(0)) as batches:
        batch = next(batches)
    memory = s.step.lower(s.abstract_state, batch).compile().memory_analysis()
    rows = devices.local_rows(s.mesh, s.config.data.sets_per_batch)
    size = lambda count: f"{count / 2**30:.3g} GiB" if count > 2**30 else f"{count / 2**20:.3g} MiB"
    mine = f"{len(s.mesh.local_devices)} of {s.mesh.size} devices ({s.mesh.local_devices[0].device_kind})"
    images = sum(leaf.nbytes // (s.mesh.size if s.config.data.stream else 1) for leaf in jax.tree.leaves(batch.data))
    return (
        f"process {jax.process_index()} of {jax.process_count()}: {mine}, sets {rows[0]} to {rows[-1]} of "
        f"{s.config.data.sets_per_batch}; a device needs {size(memory.argument_size_in_bytes)} of state and images "
        f"(images: {size(images)}) and {size(memory.temp_size_in_bytes)} of temporaries; nothing was trained"
    )


def _with_own(config: ConfigDict, dataset: Any, model: Any) -> ConfigDict:
    """A copy of the config that says which of its parts are the user's own."""
    config = config.copy_and_resolve_references()
    if dataset is not None:
        height, _, channels = dataset.image_shape
        config.data.update(source=config_lib.ARRAYS, image_size=height, channels=3 if config.data.styles else channels)
        config.data.stream = isinstance(dataset.images, data.StreamedImages)
    if model is not None:
        with config.unlocked():
            config.model = model_section(model)
    return config


def _check_together(config: ConfigDict, model: Any, shape: tuple[int, ...], mesh: Mesh) -> None:
    """Raises a ConfigError where parts of a training do not go together."""
    if tuple(model.image_shape) != shape:
        raise ConfigError(f"the model is of images {tuple(model.image_shape)}, and the data are {shape}")
    try:
        hash(model)  # compiled functions are told apart by it
    except TypeError as error:
        raise ConfigError(f"fields of a model must be hashable (tuples, not lists or dictionaries): {error}") from None
    rows, parts = config.data.sets_per_batch, config.optimizer.accumulate
    if rows % (mesh.size * parts):  # every device gets the same rows of every part of the batch
        need = f"a multiple of the devices x optimizer.accumulate ({mesh.size} x {parts})"
        raise ConfigError(f"data.sets_per_batch ({rows}) must be {need}; train.devices limits the devices")
    if config.optimizer.ema and "batch_stats" in abstract_variables(model):
        raise ConfigError(f"model.name={config.model.name!r} has batch normalisation: set optimizer.ema=0")


def _load(config: ConfigDict, model: Any, replace: bool, dataset: Any) -> tuple[Any, Any, Sets, Sets | None]:
    """The make-up of batches, the data, the fixed sets of the validation, and the objective's (None: the same ones)."""
    train_data = data.load_dataset(config.data, "train", dataset=dataset)
    spec = data.SetSpec.from_config(config.data, config_lib.num_targets(config), replace, train_data.binary)
    data.check_levels(train_data, LIKELIHOODS[model.likelihood].levels, config.data.binarize)
    smallest = train_data.size.min()
    if config.objective.targets and spec.targets > smallest:
        raise ConfigError(f"objective.targets={spec.targets}: the smallest class in training has {smallest} images")
    val_data = data.load_dataset(config.data, "val", dataset=dataset)
    num, seed = config.eval.val_sets, config.eval.seed
    fixed = data.fixed_sets(val_data, config.data.set_size, num, seed, config.data.binarize)
    apart = spec.targets or spec.group_size or spec.copies > 1  # then the objective differs from that of `fixed`
    as_they_are = dataclasses.replace(spec, rows=num, flip=False, rotate=0.0, affine=0.0, dihedral=False)
    drawn = data.drawn_sets(val_data, as_they_are, seed) if apart else None
    return spec, train_data, fixed, drawn


def _resolved(config: ConfigDict, spec: Any, dataset: Any) -> ConfigDict:
    """The config with what follows from the data: ``image_shape``, ``train.steps_per_epoch``.

    An epoch is as many steps as cover the training images once on average; twice as many where
    random warps add a copy of each, eight times where dihedral copies count as classes.
    """
    copies = 8 if spec.dihedral else 2 if spec.flip or spec.rotate or spec.affine else 1
    images_per_step = spec.rows * (spec.targets or (spec.low + spec.high) / 2)
    with config.unlocked():
        config.image_shape = tuple(int(side) for side in dataset.images.shape[1:])
        if not config.train.steps_per_epoch:
            config.train.steps_per_epoch = max(1, round(copies * len(dataset.images) / images_per_step))
    return config


def _sampling(dataset: Any, spec: Any, config: ConfigDict, mesh: Mesh) -> tuple[Callable, Callable]:
    """``(sample, batches)``: a batch is the whole table, or with `data.stream` the sets drawn for its step."""
    root = jax.random.key(config.seed)
    placed_root = devices.place(root, devices.replicated(mesh))
    if not config.data.stream:
        batch = Batch(devices.place(dataset.table(), devices.replicated(mesh)), placed_root)
        return functools.partial(data.sample_sets, spec=spec), lambda step: (batch for _ in itertools.count())
    key_of = lambda step: jax.random.fold_in(jax.random.fold_in(root, step), BATCH_KEY)
    rows = devices.local_rows(mesh, spec.rows)

    def batches(step: int) -> Iterator[Batch]:
        with contextlib.closing(data.streamed_sets(dataset, spec, key_of, step, config.train.steps, rows)) as reading:
            for drawn in reading:
                yield Batch(devices.place_local_rows(drawn, mesh, spec.rows), placed_root)

    return functools.partial(data.finish_sets, spec=spec), batches
