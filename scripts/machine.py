"""What measured numbers depend on: the machine, the versions, the commit."""

import functools
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

ROOT = Path(__file__).resolve().parent.parent
# What measurements write, and what is rendered from it: a change there is none of what is measured.
WRITTEN = ("results", "benchmarks/results", "docs/*.md", "docs/*.png", "README.md")


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "platform": jax.default_backend(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "commit": commit(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit of this clone, ``+`` where files were changed or added (results apart); None outside of one."""
    git = functools.partial(subprocess.run, cwd=ROOT, capture_output=True, text=True)
    try:
        found = git(["git", "rev-parse", "--short=12", "HEAD"])
        changed = git(["git", "status", "--porcelain", "--", ".", *(f":!{path}" for path in WRITTEN)])
    except OSError:
        return None
    return found.stdout.strip() + "+" * bool(changed.stdout) if found.returncode == 0 else None
