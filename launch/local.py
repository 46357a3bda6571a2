"""Tested (tests/training/test_processes.py). Several processes on the CPU of this machine, to try things out:

    python launch/local.py 2x4 train.py --config=configs/quickstart.py --workdir=runs/try

starts 2 processes of 4 devices each. One GPU, or all GPUs of one machine, need no launcher: one process drives them.
Paths are relative to the folder that it is called in, except that of the program: train.py and evaluate.py are those of
this repository. Ctrl-C and SIGTERM reach all processes. Exit status: the first that is not 0.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    """A port of the loopback interface that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(
    command: Sequence[str],
    processes: int,
    devices: int,
    environment: Mapping[str, str] | None = None,
    outputs: Sequence[IO | None] = (),
) -> list[subprocess.Popen]:
    """Starts a Python program in ``processes`` processes that find each other, with ``devices`` CPU devices each.

    Args:
      command: the program, relative to the repository, and its arguments.
      environment: more variables.
      outputs: where the two output streams of each process go; default: to this one's.
    """
    address = f"127.0.0.1:{free_port()}"
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    settings = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": path}
    flags = lambda i: [f"--coordinator={address}", f"--num_processes={processes}", f"--process_id={i}"]
    return [
        subprocess.Popen(
            [sys.executable, str(ROOT / command[0]), *command[1:], *(flags(i) if processes > 1 else [])],
            env={**os.environ, **settings, **(environment or {})},
            stdout=outputs[i] if outputs else None,
            stderr=subprocess.STDOUT if outputs else None,
        )
        for i in range(processes)
    ]


def main(argv: Sequence[str]) -> int:
    layout = re.fullmatch(r"(\d+)x(\d+)", argv[0]) if len(argv) > 1 else None
    if layout is None:
        print(__doc__, file=sys.stderr)
        return 2
    running = start(argv[1:], *map(int, layout.groups()))
    signal.signal(signal.SIGTERM, lambda *_: [process.terminate() for process in running])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to them too
    return next((status for status in [process.wait() for process in running] if status), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
