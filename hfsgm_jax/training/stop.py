"""Stopping a run from outside, between two dispatches."""

import signal
import threading


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
