"""What every benchmark does with its result: a JSON with its config and the machine, printed and kept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import config_flags

from hfsgm_jax.config import FREE_KEYS
from scripts.machine import machine


def publish(measure: Callable[[], dict[str, Any]], out: str | None) -> None:
    """Measures without a compilation cache, prints the result as JSON and writes it to the file ``out``, if named.

    The config is that of the flag ``--config``; where its data lie is left out.
    """
    jax.config.update("jax_enable_compilation_cache", False)  # compilation is one of the things measured
    flag = flags.FLAGS["config"]
    named = {
        "config": config_flags.get_config_filename(flag),
        "overrides": {k: v for k, v in config_flags.get_override_values(flag).items() if k not in FREE_KEYS},
    }
    text = json.dumps({**named, **measure(), **machine()}, indent=2)
    print(text)
    if out:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        Path(out).write_text(text + "\n")
