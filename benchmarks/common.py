"""What the benchmarks share: their command line, a training step as train.py builds it, timing, memory."""

import dataclasses
import functools
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from jax.sharding import Mesh
from ml_collections import ConfigDict, config_flags

from hfsgm_jax import data
from hfsgm_jax import mesh as mesh_lib
from hfsgm_jax.config import ConfigError, check_config
from hfsgm_jax.models import build_model, check_model
from hfsgm_jax.trace import Plan, Sets
from hfsgm_jax.training.feed import check_feed, make_feed
from hfsgm_jax.training.optimizer import make_optimizer
from hfsgm_jax.training.prepare import check_range, resolve
from hfsgm_jax.training.state import create_state, init_function
from hfsgm_jax.training.step import make_train_step, to_sets, zero_metrics
from scripts.benchmark import publish

BLOCK = 0.05  # seconds; what takes less is timed several calls at once
GIB = 2**30
_DEFINE = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float}


def main(kind: str, measure: Callable[..., dict[str, Any]], **options: tuple[Any, str]) -> None:
    """The program of a benchmark: flags, then ``measure(config, **values of options)``, published.

    Args:
      options: flag -> its default (a bool, an int or a float) and what it is.
    """
    config = config_flags.DEFINE_config_file("config", None, "file of the configuration")
    devices = flags.DEFINE_integer("devices", 0, "devices used (0: all; on a CPU one per core, if rows divide)", 0)
    out = flags.DEFINE_string("out", None, "JSON file; default: standard output only")
    values = {name: _DEFINE[type(default)](name, default, text) for name, (default, text) in options.items()}
    flags.mark_flag_as_required("config")

    def run(argv: list[str]) -> None:
        del argv
        if devices.value:
            jax.config.update("jax_num_cpu_devices", devices.value)
            config.value.train.devices = devices.value
        publish(lambda: measure(config.value, **{k: v.value for k, v in values.items()}), out.value, kind)

    app.run(run)


@dataclasses.dataclass
class TrainStep:
    """A compiled training step, with the state and the data that it is called with.

    Attributes:
      config: resolved.
      flops: of one step, or None where XLA does not say; see `step_flops`.
      program_bytes: memory that the compiled program asks of a device: arguments, results, temporaries.
      data_seconds, trace_seconds, compile_seconds: loading; tracing; both tracing and compiling.
    """

    config: ConfigDict
    mesh: Mesh
    compiled: Callable
    arguments: Iterator[Any]
    root: jax.Array
    state: Any
    metrics: Any
    flops: float | None
    program_bytes: int
    data_seconds: float
    trace_seconds: float
    compile_seconds: float

    def __call__(self) -> jax.Array:
        """One dispatch; the result is to wait for."""
        self.state, self.metrics, reached = self.compiled(self.state, self.metrics, next(self.arguments), self.root)
        return reached

    @property
    def images(self) -> int:
        """Target images trained on so far."""
        return int(self.metrics["images"])


def build_step(config: ConfigDict) -> TrainStep:
    """The step of ``config`` as train.py makes it: data, sharding and parameters of step 0.

    Raises:
      ConfigError, DataError: the config cannot be trained, or has an objective with parameters of its own.
    """
    check_config(config)
    check_feed(config)
    check_model(config.model, data.image_shape(config.data))
    if config.objective.tightened:
        raise ConfigError("objective.tightened=True has parameters that the benchmarks do not make: use False")
    mesh_lib.use_cpu_cores(config.data.sets_per_batch // config.optimizer.accumulate, config.train.cpu_devices)
    mesh = mesh_lib.make_mesh(config.train.devices)
    mesh_lib.check_rows(mesh, config.data.sets_per_batch, config.optimizer.accumulate)
    start = time.monotonic()
    dataset = data.load_dataset(config.data, "train")
    check_range(config, dataset)
    data_seconds = time.monotonic() - start

    config = resolve(config, dataset)
    whole = mesh_lib.replicated(mesh)
    model = build_model(config.model, config.image_shape)
    optimizer = make_optimizer(config.optimizer, config.train.steps)
    feed = make_feed(dataset, config, mesh)
    root = jax.device_put(jax.random.key(config.seed), whole)
    example = jax.eval_shape(lambda sets, key: to_sets(feed.sample(sets, key)), feed.like, root)
    # As train.py: another generator, whose many draws compile sooner.
    init_key = jax.device_put(jax.random.key(config.seed, impl="unsafe_rbg"), whole)
    state = create_state(init_function(model, optimizer, config.optimizer.ema, example), init_key, whole)
    metrics = jax.device_put(zero_metrics(), whole)

    def lower(config: ConfigDict) -> Any:
        step = make_train_step(model, config, optimizer, feed.sample, mesh, feed.sharding)
        return step.lower(state, metrics, feed.like, root)

    start = time.monotonic()
    lowered = lower(config)
    trace_seconds = time.monotonic() - start
    compiled = lowered.compile()
    compile_seconds = time.monotonic() - start
    return TrainStep(
        config=config,
        mesh=mesh,
        compiled=compiled,
        arguments=feed.start(0),
        root=root,
        state=state,
        metrics=metrics,
        flops=step_flops(config, lowered, lower),
        program_bytes=program_bytes(compiled),
        data_seconds=data_seconds,
        trace_seconds=trace_seconds,
        compile_seconds=compile_seconds,
    )


def step_flops(config: ConfigDict, lowered: Any, lower: Callable[[ConfigDict], Any]) -> float | None:
    """Floating-point operations of one step of the whole batch, by XLA's cost analysis; None where it gives none.

    Of the program before XLA optimises it: afterwards the count is of one device, depends on what was fused (and so
    computed twice), and leaves out what became a call of a library. Loops are counted once, hence no loop over the
    steps of a dispatch or the parts of a batch.
    """
    if config.train.steps_per_dispatch * config.optimizer.accumulate > 1:
        config = config.copy_and_resolve_references()
        config.train.steps_per_dispatch = config.optimizer.accumulate = 1
        lowered = lower(config)
    return (lowered.cost_analysis() or {}).get("flops")


def program_bytes(compiled: Any) -> int:
    """Memory that a compiled program needs on a device, by its plan; shared arguments and results count once."""
    plan = compiled.memory_analysis()
    return plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes + plan.temp_size_in_bytes


def seconds_per_call(call: Callable[[], Any], calls: int, seconds: float, at_least: int = 3) -> np.ndarray:
    """Times ``call``, whose result is what to wait for, after two calls that are not timed.

    Short calls are timed in blocks, with two under way at any time, as in the training loop.

    Args:
      calls: timed calls, at most about as many.
      seconds: after which no new block begins, once there are ``at_least`` of them.

    Returns:
      ``[blocks]`` seconds per call.
    """
    jax.block_until_ready(call())
    start = time.monotonic()
    jax.block_until_ready(call())
    length = math.ceil(BLOCK / max(time.monotonic() - start, 1e-6))
    length = max(1, min(length, calls // at_least))
    begin, times = time.monotonic(), []
    while len(times) < at_least or (len(times) * length < calls and time.monotonic() - begin < seconds):
        start, previous = time.monotonic(), None
        for _ in range(length):
            result = call()
            jax.block_until_ready(previous)
            previous = result
        jax.block_until_ready(previous)
        times.append((time.monotonic() - start) / length)
    return np.array(times)


def rates(units: float, times: np.ndarray, name: str) -> dict[str, Any]:
    """``{name: median, name_quartiles: [25 %, 75 %]}`` of ``units`` per second."""
    low, median, high = np.percentile(units / times, [25, 50, 75])
    return {name: float(median), f"{name}_quartiles": [float(low), float(high)]}


def memory(device: jax.Device) -> dict[str, float]:
    """Peak resident memory of this process (compilation included) and, where known, peak memory of a device; GiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB elsewhere
    peak = {"peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB}
    stats = device.memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        peak["peak_device_memory_gib"] = stats["peak_bytes_in_use"] / GIB
    return peak


def random_sets(config: ConfigDict, rows: int, set_size: int) -> Sets:
    """Sets of random images with a tenth of the pixels ink, on the host."""
    shape = rows, set_size, *data.image_shape(config.data)
    return jax.tree.map(np.asarray, Sets.of((np.random.default_rng(0).uniform(size=shape) < 0.1).astype(np.float32)))


def random_model(config: ConfigDict) -> tuple[Any, Any]:
    """The Flax module of ``config`` and random variables of it."""
    model = build_model(config.model, data.image_shape(config.data))
    keys = {"params": jax.random.key(0, impl="unsafe_rbg"), "sample": jax.random.key(1)}
    sets = random_sets(config, 1, int(np.max(config.data.set_size)))
    return model, jax.jit(lambda sets: model.init(keys, sets, Plan()))(sets)


def num_parameters(params: Any) -> int:
    """Trainable parameters."""
    return sum(x.size for x in jax.tree.leaves(params))


@functools.cache
def matmul_peak(mesh: Mesh, dtype: str) -> float:
    """FLOP/s of dense square matrix products on all devices of the mesh together: the best of some.

    What a step's share of the peak refers to: the same devices, dtype and default precision (on recent NVIDIA GPUs
    float32 products are TensorFloat-32), hence no table of data sheets, in which CPUs lack.
    """
    side = 1024 if jax.default_backend() == "cpu" else 8192
    x = jax.random.normal(jax.random.key(0), (mesh.size, side, side)).astype(dtype) / side**0.5  # keeps its scale
    x = jax.device_put(x, mesh_lib.by_rows(mesh))
    y, multiply = x, jax.jit(jnp.matmul)

    def call() -> jax.Array:
        nonlocal y
        y = multiply(x, y)
        return y

    return 2 * mesh.size * side**3 / float(seconds_per_call(call, 100, 2.0).min())
