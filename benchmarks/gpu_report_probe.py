"""What JAX sees here, and whether the data of a config are at hand; written as JSON.

python -m benchmarks.gpu_report_probe --config=FILE --out=FILE [--config.SECTION.KEY=VALUE ...]
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import jax
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from hfsgm_jax.data import DataError, load_dataset
from scripts.machine import machine

_CONFIG = config_flags.DEFINE_config_file("config", None, "file of the configuration")
_OUT = flags.DEFINE_string("out", None, "JSON file")
flags.mark_flags_as_required(["config", "out"])

QUERY = ("name", "memory.total", "driver_version", "power.limit", "clocks.max.sm")


def probe(data: ConfigDict) -> dict[str, Any]:
    """The machine, its devices, and the hash of the images of every split of the config's section `data`."""
    splits = {split: load_dataset(data, split).info for split in ("train", "val", "test")}
    stats = jax.devices()[0].memory_stats() or {}
    return {
        **machine(),
        "devices": jax.device_count(),
        "device_memory_gib": stats.get("bytes_limit", 0) / 2**30,
        "nvidia": _nvidia(),
        "data": {split: {key: info[key] for key in ("num_classes", "sha256")} for split, info in splits.items()},
    }


def _nvidia() -> list[str]:
    """What the driver says of each GPU, in the order of `QUERY`; [] without one."""
    try:
        command = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return []


def main(argv: list[str]) -> None:
    del argv
    try:
        found = probe(_CONFIG.value.data)
    except DataError as error:
        raise SystemExit(str(error)) from None
    Path(_OUT.value).write_text(json.dumps(found))


if __name__ == "__main__":
    app.run(main)
