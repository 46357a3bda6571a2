"""Ending a run, between two dispatches, all processes at the same one."""

import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from hfsgm_jax import devices, processes

REASONS = (None, "minutes", "signal")  # the later ones come first


class Ending:
    """``with Ending(config.train, mesh) as ending``: SIGTERM is a reason to end instead of killing.

    With several processes their reasons are compared on the devices, after the dispatch under way, and the answer is
    taken at the next call: it is there by then, and nobody waits.
    """

    def __init__(self, config: ConfigDict, mesh: Mesh):
        self._config, self._mesh, self._signalled, self._sent = config, mesh, threading.Event(), None
        self._largest = jax.jit(jnp.max, out_shardings=devices.replicated(mesh))

    def reason(self, step: int, seconds: float) -> str | None:
        """``steps``, ``minutes``, ``signal`` or None; one call per dispatch, and a first one that waits for all."""
        if step >= self._config.steps:
            return "steps"
        # The first process's clock alone: the others' run on while it writes and draws.
        time_is_up = processes.is_writer() and 0 < 60 * self._config.minutes <= seconds
        mine = REASONS.index("signal" if self._signalled.is_set() else "minutes" if time_is_up else None)
        if processes.alone():
            return REASONS[mine]
        everyones = devices.place(np.full(self._mesh.size, mine, np.int32), devices.by_rows(self._mesh))
        before, self._sent = self._sent, self._largest(everyones)
        return REASONS[int(self._sent if before is None else before)]

    def __enter__(self) -> "Ending":
        # Python takes handlers in the main thread only; elsewhere SIGTERM does what it did.
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._old = signal.signal(signal.SIGTERM, lambda *_: self._signalled.set())
        return self

    def __exit__(self, *_) -> None:
        if self._main:
            signal.signal(signal.SIGTERM, self._old)
