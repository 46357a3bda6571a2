"""TensorBoard events, each line of metrics on disk before training goes on.

tensorboardX's own SummaryWriter leaves writing to a thread: what it holds back is lost in a kill, and after a full disk
it hangs.
"""

import math
import os
import sys
from typing import Any


class Events:
    """Writes scalars for TensorBoard; nothing, after a line that says so, where tensorboardX is not installed.

    Args:
      folder: gets one more file of events.
      step: the step that a run continues from; TensorBoard drops what it has beyond.
    """

    def __init__(self, folder: str | os.PathLike, step: int):
        self._writer = None
        try:
            from tensorboardX.event_file_writer import EventsWriter
        except ImportError:
            print("no TensorBoard events: tensorboardX is not installed (metrics.jsonl has it all)", file=sys.stderr)
            return
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        os.makedirs(folder, exist_ok=True)
        self._writer = EventsWriter(os.path.join(folder, "events"))
        if step:
            self._writer.write_event(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def write(self, line: dict[str, Any], wall_time: float) -> None:
        """The finite numbers of a line of metrics; ``wall_time``: seconds since 1970."""
        if self._writer is None:
            return
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        for name, value in line.items():
            if name != "step" and isinstance(value, int | float) and math.isfinite(value):
                self._writer.write_event(Event(wall_time=wall_time, step=line["step"], summary=scalar(name, value)))
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
