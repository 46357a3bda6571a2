"""One measurement of a config, in a process of its own.

    python -m benchmarks.measure KIND --config=configs/NAME.py [--config.SECTION.KEY=VALUE ...] [--OPTION=VALUE ...]
        [--out=FILE]

KIND is one of `KINDS`: a function that yields records; its keywords are the options. Prints a JSON object with the
records, the command, the config, the machine and the commit, and keeps it in FILE. Nothing is taken from the
compilation cache. Nothing else should run meanwhile.
"""

import argparse
import datetime
import functools
import inspect
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

import hfsgm_jax
from benchmarks import timing
from benchmarks.torch_turns import torch_peer
from hfsgm_jax import devices, objectives
from hfsgm_jax.config import FREE_KEYS, check_config
from hfsgm_jax.errors import UserError
from hfsgm_jax.models import build_model
from hfsgm_jax.programs import parse
from hfsgm_jax.programs.train import load_config_file
from hfsgm_jax.trace import Plan, Sets
from hfsgm_jax.training import setup
from scripts.machine import machine, write

Record = dict[str, Any]


def train_step(config: ConfigDict, steps: int = 50, seconds: float = 60.0) -> Iterator[Record]:
    """Data included, as train.py runs it.

    Model FLOP: XLA's count for one step of the whole batch before it optimises the program. Peak: what dense square
    matrix products reach on the same devices in the same dtype at JAX's default precision, measured in the same
    process (on a CPU a matrix product may use all cores, also where the step has fewer devices). Peak GiB: of the
    device; of a CPU, of the process, compilation included. Program GiB: arguments, results and temporaries of the
    compiled step on a device.

    Args:
      steps: timed steps, about as many.
      seconds: after which no new dispatch is timed, once there are 3.
    """
    run = setup(config)
    batches, start = run.batches(0), time.monotonic()
    lowered = run.step.lower(run.abstract_state, next(batches))
    compiled = lowered.compile()
    compile_seconds, state, metrics = time.monotonic() - start, run.state, {}

    def dispatch() -> jax.Array:
        nonlocal state, metrics
        state, metrics = compiled(state, next(batches))
        return metrics["loss"]

    per_dispatch = config.train.steps_per_dispatch
    times = timing.seconds_per_call(dispatch, max(1, steps // per_dispatch), seconds) / per_dispatch
    memory, median = timing.peak_memory(), float(np.median(times))  # before the matrices
    flops, peak = step_flops(config, lowered) / median, timing.matmul_peak(run.mesh, config.model.dtype)
    yield {
        **timing.rates(int(state.images) / int(state.step), times, "images_per_second"),
        "seconds_per_step": median,
        "model_flops_per_second": flops,
        "matmul_flops_per_second": peak,
        "share_of_peak": flops / peak,
        "compile_seconds": compile_seconds,
        **memory,
        "program_memory_gib": timing.program_memory(compiled),
        "parameters": optax.tree.size(state.params),
        "train_nelbo_after": float(metrics["nelbo"] / metrics["count"]),
        "sets_per_batch": config.data.sets_per_batch,
        "set_size": config.data.set_size,
        "dtype": config.model.dtype,
        "devices": run.mesh.size,
    }


def step_flops(config: ConfigDict, lowered: Any) -> float:
    """Floating-point operations of one step of the whole batch, by XLA's cost analysis.

    Of the program before XLA optimises it: afterwards the count is of one device, depends on what was fused (and so
    computed twice), and leaves out what became a call of a library. Loops are counted once, hence no loop over the
    steps of a dispatch or the parts of a batch.
    """
    if config.train.steps_per_dispatch * config.optimizer.accumulate > 1:
        config = config.copy_and_resolve_references()
        config.train.steps_per_dispatch = config.optimizer.accumulate = 1
        run = setup(config)
        lowered = run.step.lower(run.abstract_state, next(run.batches(0)))
    return lowered.cost_analysis()["flops"]


def weak_scaling(config: ConfigDict, rows: int = 4, steps: int = 20, seconds: float = 30.0) -> Iterator[Record]:
    """As many sets per device on 1, 2, 4, … devices.

    Efficiency: images/s over those of one device, over the number of devices. The devices of a CPU share its cores,
    caches and memory: more devices than cores measure nothing, and what one device already does on several cores
    cannot become faster.

    Args:
      rows: sets per device.
      steps, seconds: timed for each number of devices, see `train_step`.
    """
    devices.use_cpu_cores(devices=config.train.cpu_devices)
    most, alone = config.train.devices or len(jax.devices()), None
    for count in [*(2**n for n in range(most.bit_length()) if 2**n < most), most]:
        config.train.devices, config.data.sets_per_batch = count, count * rows
        (record,) = train_step(config, steps, seconds)
        alone = alone or record["images_per_second"]
        yield {**record, "efficiency": record["images_per_second"] / (alone * count)}


def sampling(
    config: ConfigDict, sets: int = 4, set_size: int = 5, num: int = 16, repeat: int = 10, seconds: float = 60.0
) -> Iterator[Record]:
    """New images of a class given a context, all of a class at once, random weights.

    The loop over pixels of autoregressive decoders is compiled and keeps what it computed. A model without shared
    latents (the VAE) samples unconditionally.

    Args:
      sets, set_size: classes, and images of each context.
      num: new images of each class, all at once.
      repeat, seconds: timed calls, and the time after which they end, once there are 3.
    """
    times, facts = time_on_sets(config, functools.partial(_draw, num=num), sets, set_size, repeat, seconds)
    rates, per_image = timing.rates(sets * num, times, "images_per_second"), float(np.median(times)) / (sets * num)
    yield {**rates, "milliseconds_per_image": 1e3 * per_image, **facts, "num": num}


def _draw(model: Any, apply: Any, encode: Any, contexts: Sets, key: jax.Array, num: int = 16) -> jax.Array:
    if model.shared_nodes:
        return hfsgm_jax.sampling.conditional(apply, encode, contexts, num, key)[1]
    return hfsgm_jax.sampling.unconditional(apply, contexts.num_rows, num, model.image_shape, key)[1]


def importance_sampling(
    config: ConfigDict, sets: int = 16, set_size: int = 5, samples: int = 10, repeat: int = 3, seconds: float = 600.0
) -> Iterator[Record]:
    """The joint importance-weighted bound of random sets, random weights.

    A sample-image is one importance sample of one image; memory should not grow with K.

    Args:
      sets, set_size: sets, and images of each.
      samples: K.
      repeat, seconds: timed calls, and the time after which they end, once there are 3.
    """
    bound = functools.partial(_bound, samples=samples)
    times, facts = time_on_sets(config, bound, sets, set_size, repeat, seconds)
    rates = timing.rates(sets * set_size * samples, times, "sample_images_per_second")
    yield {**rates, **facts, "samples": samples, "chunk": objectives.CHUNK}


def _bound(model: Any, apply: Any, encode: Any, rows: Sets, key: jax.Array, samples: int = 10) -> jax.Array:
    return objectives.joint_bounds(apply, rows, key, (samples,), features=encode(rows))[0]


FUNCTIONS = {"sampling": _draw, "importance_sampling": _bound}


def time_on_sets(
    config: ConfigDict, function: Callable[..., jax.Array], sets: int, set_size: int, repeat: int, seconds: float
) -> tuple[np.ndarray, Record]:
    """Compiles ``function(model, apply, encode, sets, key)`` for random variables and sets, and times it.

    Returns:
      Seconds per call; facts about the program.
    """
    check_config(config)
    devices.use_cpu_cores(sets)
    lowered, arguments = on_sets(config, function, sets, set_size)
    start = time.monotonic()
    compiled = lowered.compile()
    compile_seconds = time.monotonic() - start
    if not np.isfinite(compiled(*arguments)).all():
        raise FloatingPointError("the results are not finite: their time would mean nothing")
    times = timing.seconds_per_call(lambda: compiled(*arguments), repeat, seconds)
    return times, {
        "compile_seconds": compile_seconds,
        **timing.peak_memory(),
        "program_memory_gib": timing.program_memory(compiled),
        "parameters": optax.tree.size(arguments[0]["params"]),
        "sets": sets,
        "set_size": set_size,
        "dtype": config.model.dtype,
        "devices": devices.make_mesh(config.train.devices).size,
    }


def on_sets(config: ConfigDict, function: Callable[..., jax.Array], sets: int, set_size: int) -> tuple[Any, tuple]:
    """``function(model, apply, encode, sets, key)`` lowered for random variables and sets; and its arguments."""
    mesh, shape = devices.make_mesh(config.train.devices), hfsgm_jax.data.image_shape(config.data)
    images = np.random.default_rng(0).uniform(size=(sets, set_size, *shape)) < 0.1  # a tenth of the pixels is ink
    rows = jax.tree.map(np.asarray, Sets.of(images.astype(np.float32)))
    model = build_model(config.model, shape)
    keys = {"params": jax.random.key(0, impl="unsafe_rbg"), "sample": jax.random.key(1)}
    variables = jax.jit(lambda row: model.init(keys, row, Plan()))(jax.tree.map(lambda x: x[:1], rows))
    arguments = devices.place((variables, jax.random.key(2)), devices.replicated(mesh))
    arguments = *arguments, devices.place(rows, devices.by_rows(mesh))

    @functools.partial(jax.jit, out_shardings=devices.by_rows(mesh))
    def program(variables: Any, key: jax.Array, rows: Sets) -> jax.Array:
        return function(model, *hfsgm_jax.sampling.bind(model, variables), rows, key)

    return program.lower(*arguments), arguments


def probe(config: ConfigDict) -> Iterator[Record]:
    """The devices, and the digest of the images of every split: whether the data of a config are at hand."""
    load = functools.partial(hfsgm_jax.data.load_dataset, config.data)
    found = {split: load(split).info["sha256"] for split in ("train", "val", "test")}
    memory = (jax.devices()[0].memory_stats() or {}).get("bytes_limit", 0) / timing.GIB
    yield {"num_devices": jax.device_count(), "device_memory_gib": memory, "data": found}


KINDS = {f.__name__: f for f in (train_step, weak_scaling, sampling, importance_sampling, torch_peer, probe)}


def command(kind: str, arguments: list[str]) -> str:
    """The command of a measurement, without the places of data and results, which differ by machine."""
    places = tuple(f"--config.{key}=" for key in FREE_KEYS) + ("--out=",)
    return " ".join([f"python -m benchmarks.measure {kind}", *(a for a in arguments if not a.startswith(places))])


def main() -> None:
    kind, arguments = (sys.argv[1:] or [""])[0], sys.argv[2:]
    if kind not in KINDS:
        raise SystemExit(f"{__doc__}\nKIND is one of {', '.join(KINDS)}")
    parser = argparse.ArgumentParser(f"measure {kind}", description=KINDS[kind].__doc__)
    parser.add_argument("--config", required=True, help="file of the configuration")
    parser.add_argument("--out", help="JSON file; default: standard output only")
    keywords = [p for p in inspect.signature(KINDS[kind]).parameters.values() if p.name != "config"]
    for keyword in keywords:
        parser.add_argument(f"--{keyword.name}", type=type(keyword.default), default=keyword.default)
    options, given = parse(parser, arguments, "config.")
    jax.config.update("jax_enable_compilation_cache", False)  # compilation is one of the things measured
    try:
        config = load_config_file(options.config, given)
        records = list(KINDS[kind](config, **{p.name: getattr(options, p.name) for p in keywords}))
    except UserError as error:
        raise SystemExit(f"{kind}: {error}") from None
    result = {
        "kind": kind,
        "command": command(kind, arguments),
        "config": options.config,
        "records": records,
        **machine(),
        "date": datetime.date.today().isoformat(),
    }
    write(result, options.out)


if __name__ == "__main__":
    main()
