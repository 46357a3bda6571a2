"""Several processes that train or evaluate one model together: starting them, agreeing, ending.

A process drives the devices of one host (or one GPU); arrays and the mesh are those of all of them. Every process
runs the same program, so each decision that changes what is computed must be the same in all: it follows from the
config, from replicated arrays, or from what the functions here agree on. The first process alone writes
(checkpoints apart, which all write). docs/scaling.md says how to start them.
"""

import contextlib
import hashlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from hfsgm_jax.errors import ConfigError, UserError

AUTO = "auto"
START_SECONDS = 300  # within which all processes have to be there
HEARTBEAT_SECONDS = 60  # so long silent is dead, and then the others end
MESSAGE_BYTES = 2000  # of an error that other processes are told
T = TypeVar("T")


def start(coordinator: str | None, num_processes: int | None = None, process_id: int | None = None) -> None:
    """Joins the other processes; before JAX has started. Does nothing without a coordinator.

    Args:
      coordinator: ``HOST:PORT`` of the first process, `AUTO` to ask the cluster's scheduler, or None: one process.

    Raises:
      ConfigError: arguments that do not go together, no scheduler that is known, or JAX cannot join the others.
    """
    by_hand = coordinator not in (None, AUTO)
    fits = ":" in coordinator if by_hand else num_processes is None and process_id is None
    if not fits:
        raise ConfigError(f"--coordinator={coordinator}: --num_processes and --process_id go with one of HOST:PORT")
    if coordinator is None:
        return
    seconds = int(os.environ.get("HFSGM_START_SECONDS", START_SECONDS))
    heartbeat = int(os.environ.get("HFSGM_HEARTBEAT_SECONDS", HEARTBEAT_SECONDS))
    settings = dict(initialization_timeout=seconds, heartbeat_timeout_seconds=heartbeat)
    if by_hand:
        # What is said here goes before what a scheduler says: every process has all devices that it sees.
        settings |= dict(coordinator_address=coordinator, num_processes=num_processes, process_id=process_id)
        settings["cluster_detection_method"] = "deactivate"
    # Without an accelerator the processes talk by Gloo, which is not the default of every JAX.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    who = "this process" if process_id is None else f"process {process_id} of {num_processes}"
    # When the time is over JAX ends the process, with a message of its own.
    print(f"{who} waits {seconds} s at most for the others by {coordinator}", file=sys.stderr, flush=True)
    try:
        jax.distributed.initialize(**settings)
    except (ValueError, RuntimeError) as error:
        hint = " (of SLURM, TPU pod slices, Open MPI; elsewhere give HOST:PORT)" if coordinator == AUTO else ""
        raise ConfigError(f"{who} cannot join the others by {coordinator}{hint}: {first_line(error)}") from None
    # JAX takes SIGTERM for a notice that training must look for; until it does, the signal should end the process.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def alone() -> bool:
    """True where this is the only process; JAX need not have started."""
    return not jax.distributed.is_initialized() or jax.process_count() == 1


def is_writer() -> bool:
    """True in the process that writes files and reports progress."""
    return alone() or jax.process_index() == 0


def writer_first(make: Callable[[], T], name: str) -> T:
    """The result of ``make``, called in the first process before the others: they find its files.

    Raises:
      UserError: ``make`` raised one, in this process; or in another one: a ConfigError that tells it.
    """
    result = failure = None
    for my_turn in (is_writer(), not is_writer()):
        if my_turn:
            try:
                result = make()
            except UserError as error:
                failure = error
        told = _gather(str(failure) or type(failure).__name__ if failure else "")
        if any(told):
            first = next(i for i, text in enumerate(told) if text)
            raise failure or ConfigError(f"process {first} failed with its {name}: {told[first]}")
    return result


def all_agree(mine: bool) -> bool:
    """True where the value is true in every process."""
    return all(told == "True" for told in _gather(str(bool(mine))))


def check_same(text: str, what: str) -> None:
    """Raises a ConfigError in every process unless ``text`` is the same in all."""
    told = _gather(hashlib.sha256(text.encode()).hexdigest())
    others = [i for i, other in enumerate(told) if other != told[0]]
    if others:
        raise ConfigError(f"{what} differs between process 0 and {others}; all have to be given the same")


def _gather(text: str) -> list[str]:
    """The texts of all processes, each cut to `MESSAGE_BYTES`; waits for all."""
    if alone():
        return [text]
    mine = np.frombuffer(text.encode()[:MESSAGE_BYTES].ljust(MESSAGE_BYTES, b"\0"), np.uint8)
    return [row.tobytes().rstrip(b"\0").decode(errors="ignore") for row in multihost_utils.process_allgather(mine)]


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A file to write that takes the place of ``path`` when complete, with the folders it needs.

    In processes that do not write, what is written goes nowhere.
    """
    path = Path(path)
    if not is_writer():
        yield Path(os.devnull)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    yield partial
    os.replace(partial, path)


@contextlib.contextmanager
def together(*alike: type[Exception]) -> Iterator[None]:
    """With several processes, an error in one ends it at once, and thereby the others, which would wait for it.

    Args:
      alike: errors that all processes raise at the same place; they pass.
    """
    try:
        yield
    except BaseException as error:
        if alone() or isinstance(error, (SystemExit, *alike)):
            raise
        traceback.print_exc()
        who = f"process {jax.process_index()} of {jax.process_count()}"
        advice = "where it lost another process, that one's own output says why. The same command, in all processes"
        leave(1, f"{who} ends: {first_line(error)}; {advice}, continues from what is saved")


def leave(status: int, message: str) -> None:
    """Says why, and ends this process; at once, where the usual end would wait for the other processes."""
    print(message, file=sys.stderr, flush=True)
    if not jax.distributed.is_initialized():
        sys.exit(status)
    sys.stdout.flush()
    os._exit(status)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
