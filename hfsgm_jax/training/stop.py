"""Stopping a run before its last step, between two dispatches, all processes at the same one."""

import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from hfsgm_jax import mesh as mesh_lib
from hfsgm_jax import processes

REASONS = (None, "minutes", "signal")  # the later ones come first


class StopSignal:
    """``with StopSignal() as stop``: SIGTERM makes ``stop.requested`` true instead of killing."""

    requested = False

    def __enter__(self) -> "StopSignal":
        # Python takes handlers in the main thread only; elsewhere SIGTERM does what it did.
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._old = signal.signal(signal.SIGTERM, self._request)
        return self

    def _request(self, *_) -> None:
        self.requested = True

    def __exit__(self, *_) -> None:
        if self._main:
            signal.signal(signal.SIGTERM, self._old)


class Ending:
    """Why the run ends before its last step: the same in every process, whichever of them has the reason.

    With several processes their reasons are compared on the devices, after the dispatch under way, and the answer is
    taken at the next call: it is there by then, and nobody waits.
    """

    def __init__(self, stop: StopSignal, mesh: Mesh):
        self._stop, self._sent = stop, None
        self._sharding, self._shape = mesh_lib.by_rows(mesh), (mesh.size,)
        self._largest = jax.jit(jnp.max, out_shardings=mesh_lib.replicated(mesh))

    def reason(self, time_is_up: bool) -> str | None:
        """``minutes``, ``signal`` or None; a call for every dispatch, and a first one that waits for all processes."""
        mine = REASONS.index("signal" if self._stop.requested else "minutes" if time_is_up else None)
        if processes.alone():
            return REASONS[mine]
        place = lambda index: np.full(len(range(*index[0].indices(self._shape[0]))), mine, np.int32)  # noqa: E731
        before, self._sent = self._sent, self._largest(jax.make_array_from_callback(self._shape, self._sharding, place))
        return REASONS[int(self._sent if before is None else before)]
