"""What every benchmark does with its result: a JSON with its kind, command, config and machine, printed and kept."""

import datetime
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import config_flags

from hfsgm_jax.config import FREE_KEYS
from scripts.machine import machine


def publish(measure: Callable[[], dict[str, Any]], out: str | None, kind: str | None = None) -> None:
    """Measures without a compilation cache, prints the result as JSON and writes it to the file ``out``, if named.

    The config is that of the flag ``--config``; where its data lie is left out. ``kind`` is what `make bench` groups
    results by: the name of the benchmark's file, unless given.
    """
    jax.config.update("jax_enable_compilation_cache", False)  # compilation is one of the things measured
    flag = flags.FLAGS["config"]
    kind = kind or Path(sys.argv[0]).stem
    named = {
        "kind": kind,
        "command": command(kind, sys.argv[1:]),
        "config": config_flags.get_config_filename(flag),
        "overrides": {k: v for k, v in config_flags.get_override_values(flag).items() if k not in FREE_KEYS},
    }
    text = json.dumps({**named, **measure(), **machine(), "date": datetime.date.today().isoformat()}, indent=2)
    print(text)
    if out:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        Path(out).write_text(text + "\n")


def command(kind: str, arguments: list[str]) -> str:
    """What to type for this measurement again; without the places of data and results, which differ by machine."""
    places = tuple(f"--config.{key}=" for key in FREE_KEYS) + ("--out=",)
    return " ".join([f"python -m benchmarks.{kind}", *(a for a in arguments if not a.startswith(places))])
