"""Records of measurements, with what they depend on: the machine, the versions, the commit."""

import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import jax

ROOT = Path(__file__).resolve().parent.parent
# Written by measurements, or rendered from them: a change there changes nothing that is measured.
WRITTEN = ("results", "benchmarks/results", "docs/*.md", "docs/*.png", "README.md")


def machine() -> dict[str, Any]:
    """The machine, the versions and the commit."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    return {
        "cpu": [*names, platform.processor() or platform.machine()][0],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "platform": jax.default_backend(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "commit": commit(),
    }


def commit() -> str | None:
    """The commit of this clone, ``+`` where files were changed or added (results apart).

    Of a copy that is no clone, HFSGM_COMMIT of the environment, or None.
    """
    if not (ROOT / ".git").exists():
        return os.environ.get("HFSGM_COMMIT")
    git = lambda *command: subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True).stdout
    changed = git("status", "--porcelain", "--", ".", *(f":!{path}" for path in WRITTEN))
    return git("rev-parse", "--short=12", "HEAD").strip() + "+" * bool(changed)


def write(result: dict[str, Any], out: str | os.PathLike | None) -> None:
    """Prints a result as JSON, and keeps it in the file ``out``."""
    text = json.dumps(result, indent=2) + "\n"
    print(text, end="")
    if out:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        Path(out).write_text(text)
