"""Programs of a config as the compilers of accelerators make them, without the accelerators: compiled, not run.

    python -m scripts.compile_for TARGET --config=configs/NAME.py [--config.SECTION.KEY=VALUE ...]
        [--programs=train_step,importance_sampling,sampling] [--out=FILE]

TARGET is h100, h200 or b200, with ``:N`` for N of one machine (extra `cuda`), or a TPU slice such as v5e:2x4, v6e:4x4
or v5p:2x2x1 (extra `tpu`). Prints a JSON object and keeps it in FILE; ``python -m scripts.compile_for --page`` renders
those of benchmarks/compiled in docs/accelerators.md and docs/scaling.md. Times and batches in it are estimates, marked
as such.
"""

import argparse
import contextlib
import datetime
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # ask no cloud what this machine is
os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")  # there is no driver
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # what runs: the initialisation of variables
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=3")  # the default, not that of a CPU's programs

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh
from ml_collections import ConfigDict

from benchmarks import measure
from hfsgm_jax import devices
from hfsgm_jax.programs import parse
from hfsgm_jax.programs.train import load_config_file
from hfsgm_jax.training import setup
from scripts import readme
from scripts.benchmarks_page import config_of
from scripts.compiled_module import instructions
from scripts.machine import ROOT, machine, write

RESULTS = ROOT / "benchmarks" / "compiled"
PROGRAMS = ("train_step", "importance_sampling", "sampling")
GIB = 2.0**30
few_sets = lambda devices: -(-4 // devices) * devices  # of 5 images: what importance sampling and sampling take


class Chip(NamedTuple):
    """Figures of its maker: bytes of memory, bytes per second from it, bfloat16 and float32 FLOP per second.

    ``links``: bytes per second that it sends to the other devices of its machine or slice. ``cores``: streaming
    multiprocessors, ``capability``: CUDA's version of the architecture; of GPUs alone.
    """

    memory: float
    bandwidth: float
    bfloat16: float
    float32: float
    links: float
    cores: int = 0
    capability: int = 0


CHIPS = {  # float32 matrix products of JAX's default precision: TF32 on GPUs, bfloat16 passes on TPUs
    "h100": Chip(84.9e9, 3.35e12, 989e12, 494e12, 450e9, 132, 9),
    "h200": Chip(151.4e9, 4.8e12, 989e12, 494e12, 450e9, 132, 9),
    "b200": Chip(191.5e9, 7.67e12, 2250e12, 1125e12, 900e9, 148, 10),
    "v5e": Chip(16e9, 0.819e12, 197e12, 197e12, 200e9),
    "v5p": Chip(95e9, 2.765e12, 459e12, 459e12, 600e9),
    "v6e": Chip(32e9, 1.64e12, 918e12, 918e12, 400e9),
}
LAUNCH = 2.5e-6  # seconds from kernel to kernel, assumed
# What XLA asks of a GPU beside `Chip`; equal for these three (openxla/xla, xla/backends/gpu/target_config/specs).
GPU = """gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  registers_per_core_limit: 65536 registers_per_block_limit: 65536 fpus_per_core: 128 core_count: {cores}
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  memory_bandwidth: {bandwidth} l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: {memory}
  cuda_compute_capability {{ major: {capability} feature_extension: ACCELERATED_FEATURES }}
  device_address_bits: 64 device_vendor: "NVIDIA Corporation" name: "{name}"
  driver_version: "13.0.0" runtime_version: "12.8.0" compile_time_toolkit_version: "12.8.0" dnn_version: "9.10.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{name}"
"""


def described(target: str) -> tuple[str, list[Any]]:
    """``(chip, devices)`` of a target; the devices are descriptions for the compiler.

    Raises:
      SystemExit: an unknown chip, or its compiler is not installed.
    """
    chip, _, size = target.partition(":")
    if chip not in CHIPS:
        raise SystemExit(f"compile_for: target {target!r}: the chip has to be one of {', '.join(CHIPS)}")
    gpu = CHIPS[chip].cores > 0
    try:
        if not gpu:
            return chip, list(topologies.get_topology_desc(target, platform="tpu").devices)
        config = GPU.format(name=chip, **{k: int(v) for k, v in CHIPS[chip]._asdict().items()})
        size = f"1x1x{size or 1}"  # processes, hosts of each, devices of each
        return chip, list(topologies.get_topology_desc(chip, "cuda", target_config=config, topology=size).devices)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        install = f"pip install '.[{'cuda' if gpu else 'tpu'}]' brings its compiler"
        raise SystemExit(f"compile_for: {target}: {error}\n{install}") from None


@contextlib.contextmanager
def compiled_for(found: list[Any], platform: str) -> Iterator[None]:
    """Everything is made for the described devices: arrays on them are their shapes alone."""

    def place(tree: Any, sharding: Any) -> Any:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)

    make_mesh = lambda count=0: Mesh(np.array(found), ("data",), axis_types=(AxisType.Auto,))
    with (
        mock.patch.object(devices, "place", place),
        mock.patch.object(devices, "make_mesh", make_mesh),
        mock.patch.object(jax, "default_backend", lambda: platform),
    ):
        yield


def lowered(config: ConfigDict, program: str) -> Any:
    """One of `PROGRAMS`, ready to be compiled; inside `compiled_for`."""
    if program == "train_step":
        run = setup(config)
        return run.step.lower(run.abstract_state, next(run.batches(0)))
    return measure.on_sets(config, measure.FUNCTIONS[program], few_sets(devices.make_mesh().size), 5)[0]


def facts(config: ConfigDict, chip: Chip, compiled: Any) -> dict[str, Any]:
    """Of one device and call: memory, kernels, collectives, FLOP and bytes as the compiler counts them; estimates."""
    memory, cost, text = compiled.memory_analysis(), compiled.cost_analysis() or {}, compiled.as_text()
    kinds, origins, collectives, launches = instructions(text)
    flops, moved = cost.get("flops"), cost.get("bytes accessed")
    seconds = {
        "arithmetic": flops and flops / getattr(chip, config.model.dtype),  # CUDA's compiler may count nothing: None
        "memory": moved and moved / chip.bandwidth,
        "launches": launches * LAUNCH if chip.cores else 0.0,
    }
    fixed, temporary = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    return {
        "arguments_gib": fixed / GIB,
        "temporaries_gib": temporary / GIB,
        "kernels": sum(kinds.values()),
        "launches": launches,
        "kernels_by_kind": dict(kinds.most_common()),
        "kernels_by_origin": dict(origins.most_common()),
        "collectives": {name: {"count": n, "bytes": b} for name, (n, b) in collectives.items()},
        "flop": flops,
        "bytes": moved,
        "estimated_seconds": {**seconds, "largest": max(x or 0.0 for x in seconds.values())},
        "estimated_times_this_batch": max(0.0, (chip.memory - fixed) / max(temporary, 1)),
    }


def compile_for(target: str, config: ConfigDict, programs: list[str]) -> dict[str, Any]:
    """The record of a target and config: a part per program."""
    chip, found = described(target)
    records = {}
    with compiled_for(found, "gpu" if CHIPS[chip].cores else "tpu"):
        for program in programs:
            start = time.monotonic()
            low = lowered(config, program)
            traced, start = time.monotonic() - start, time.monotonic()
            compiled = low.compile()
            seconds = {"trace_seconds": traced, "compile_seconds": time.monotonic() - start}
            records[program] = {**seconds, **facts(config, CHIPS[chip], compiled)}
    sizes = {"sets_per_batch": config.data.sets_per_batch, "dtype": config.model.dtype, "devices": len(found)}
    return {"target": target, **sizes, "compiled, not run": records}


def kept() -> Iterator[tuple[dict[str, Any], str, dict[str, Any]]]:
    """The records in `RESULTS`, and of each its programs."""
    for file in sorted(RESULTS.glob("*.json")):
        found = json.loads(file.read_text())
        for program, facts in found["compiled, not run"].items():
            yield found, program, facts


def page() -> str:
    """The table of docs/accelerators.md."""
    number = lambda x, unit: "?" if x is None else f"{x / unit:.3g}"
    rows = []
    for found, program, step in kept():
        parts = [number(step["estimated_seconds"][k], 1e-3) for k in ("arithmetic", "memory", "launches")]
        sets = found["sets_per_batch"] if program == "train_step" else few_sets(found["devices"])
        row = {
            "config": config_of(found),
            "target": found["target"],
            "program": program,
            "sets × devices": f"{sets} × {found['devices']} ({found['dtype']})",
            "compile s": f"{step['compile_seconds']:.0f}",
            "arguments GiB": f"{step['arguments_gib']:.2f}",
            "temporaries GiB": f"{step['temporaries_gib']:.2f}",
            "times this batch that fit": f"{step['estimated_times_this_batch']:.0f}",
            "kernels": step["kernels"],
            "all-reduces": step["collectives"].get("all-reduce", {"count": 0})["count"],
            "GFLOP": number(step["flop"], 1e9),
            "GB moved": number(step["bytes"], 1e9),
            "estimated ms: arithmetic, memory, launches": ", ".join(parts),
        }
        rows.append(row)
    return readme.table(rows)


def scaling() -> str:
    """The table of docs/scaling.md: what the all-reduces of a step take of it."""
    rows = []
    for found, program, step in kept():
        if (devices := found["devices"]) == 1 or program != "train_step":
            continue
        size, sets = step["collectives"]["all-reduce"]["bytes"], found["sets_per_batch"] / devices
        links = 2 * (devices - 1) / devices * size / CHIPS[found["target"].split(":")[0]].links
        seconds = step["estimated_seconds"]["largest"]
        row = {
            "config": f"{config_of(found)} ({found['dtype']})",
            "target": found["target"],
            "sets of a device": f"{sets:g}",
            "bytes reduced": f"{size:,}",
            "ms of links": f"{1e3 * links:.3f}",
            "ms of the step": f"{1e3 * seconds:.2f}",
            "links' share": f"{links / (links + seconds):.1%}",
            "sets of a device for 95 %": math.ceil(sets * 19 * links / seconds),
        }
        rows.append(row)
    return readme.table(rows)


def main() -> None:
    target, arguments = (sys.argv[1:] or [""])[0], sys.argv[2:]
    if target == "--page":
        readme.write("accelerators", page())
        readme.write("scaling", scaling())
        return
    parser = argparse.ArgumentParser("compile_for", description=__doc__)
    parser.add_argument("--config", required=True, help="file of the configuration")
    parser.add_argument("--programs", default=",".join(PROGRAMS), help="what is compiled")
    parser.add_argument("--out", help="JSON file; default: standard output only")
    options, given = parse(parser, arguments, "config.")
    jax.config.update("jax_enable_compilation_cache", False)
    result = {
        "command": " ".join(["python -m scripts.compile_for", target, *(a for a in arguments if "--out" not in a)]),
        "config": options.config,
        **compile_for(target, load_config_file(options.config, given), options.programs.split(",")),
        **{k: v for k, v in machine().items() if k in ("cpu", "cores", "python", "jax", "commit")},
        "date": datetime.date.today().isoformat(),
    }
    write(result, options.out)


if __name__ == "__main__":
    main()
