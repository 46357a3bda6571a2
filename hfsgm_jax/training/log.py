"""The output of a run: metrics.jsonl, TensorBoard, the terminal."""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import tqdm

from hfsgm_jax import processes
from hfsgm_jax.objectives import SUMS
from hfsgm_jax.run_folder import METRICS_FILE, SCORE, read_metrics
from hfsgm_jax.training.state import TrainState

SHOWN = {"train/nelbo": "train", SCORE: "val", "images_per_second": "images/s", "skipped": "skipped"}
SHOWN["compile_seconds"] = "seconds of compilation"


class Meter:
    """The clock of training; and metrics of the steps since the last line, added up on the host.

    Args:
      images, seconds: where the run continues from.
    """

    def __init__(self, images: int, seconds: float):
        self._sums: dict[str, float] = {}
        self._under_way: list[dict[str, jax.Array]] = []
        self._mark, self._first = (images, seconds), None
        self._began = time.monotonic() - seconds

    @property
    def seconds(self) -> float:
        """Seconds of training, with those of earlier runs."""
        return time.monotonic() - self._began

    @contextlib.contextmanager
    def paused(self) -> Iterator[float]:
        """Stops the clock; gives the seconds until here."""
        seconds = self.seconds
        yield seconds
        self._began = time.monotonic() - seconds

    def add(self, metrics: dict[str, jax.Array], began: float) -> None:
        """Adds those of a dispatch that began at these seconds; waits for the one before it.

        Two under way keep the device busy; more would only delay signals and clocks. The first one has compiled the
        step, which is told in the first line and is no part of its rate.
        """
        if self._first is None:
            compiling = self.seconds - began
            self._first = {"compile_seconds": round(compiling, 3)}
            self._mark = self._mark[0], self._mark[1] + compiling
        self._under_way.append(metrics)
        if len(self._under_way) > 1:
            self._take()

    def _take(self) -> None:
        for name, value in jax.device_get(self._under_way.pop(0)).items():
            before = 0.0 if name == "learning_rate" else self._sums.get(name, 0.0)
            self._sums[name] = before + float(value)

    def line(self, step: int, state: TrainState) -> dict[str, Any]:
        """A line of metrics, with means per target image and per step, none where every step was skipped.

        Waits for the device; what is added afterwards belongs to the next line.
        """
        while self._under_way:
            self._take()
        sums, self._sums = self._sums, {}
        first, self._first = self._first, {}
        images, seconds = int(state.images), self.seconds
        rate = (images - self._mark[0]) / max(seconds - self._mark[1], 1e-9)
        self._mark = images, seconds
        line = dict(step=step, images=images, seconds=round(seconds, 3), learning_rate=sums["learning_rate"])
        if sums["count"]:
            line |= {f"train/{name}": sums[name] / sums["count"] for name in SUMS if name != "count"}
            line["grad_norm"] = sums["grad_norm"] / sums["steps"]
        return line | {"images_per_second": rate, "skipped": int(state.skipped), **first}


def drop_metrics_beyond(workdir: Path, step: int) -> None:
    """Rewrites ``metrics.jsonl`` without the lines beyond ``step``, atomically."""
    kept = [line for line in read_metrics(workdir) if line["step"] <= step]
    with processes.replacing(workdir / METRICS_FILE) as path:
        path.write_text("".join(json.dumps(line) + "\n" for line in kept))


class Log(contextlib.AbstractContextManager):
    """Writes each line of metrics everywhere; a progress bar on a terminal, plain lines otherwise.

    Of several processes the first one alone writes.

    Args:
      step: where the run continues from; lines beyond it are dropped.
      total_steps, minutes: when it ends; no minutes: 0.
    """

    def __init__(self, workdir: Path, step: int, total_steps: int, minutes: float = 0.0):
        self._path, self._writes = workdir / METRICS_FILE, processes.is_writer()
        self._total, self._budget = total_steps, 60 * minutes or math.inf
        if self._writes:
            drop_metrics_beyond(workdir, step)
            self._write_event = _event_writer(workdir / "tb")
        disable = None if self._writes else True  # None: where there is no terminal
        self._bar = tqdm.tqdm(total=total_steps, initial=step, unit="step", disable=disable)

    def say(self, text: str) -> None:
        """A line for the user, wherever the bar is; a run goes on where nobody reads it any more (`| head`)."""
        if self._writes:
            with contextlib.suppress(BrokenPipeError):
                self._bar.write(text, file=sys.stderr)

    def advance(self, step: int) -> None:
        self._bar.update(step - self._bar.n)

    def write(self, line: dict[str, Any]) -> None:
        """One line of metrics: ``step``, ``images``, ``seconds`` and all that was measured."""
        if not self._writes:
            return
        # JSON has no NaN; a value that is not finite is left out of the plots and named in the file.
        safe = {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
        with self._path.open("a") as file:
            file.write(json.dumps(safe) + "\n")
        self._write_event(line)
        values = "  ".join(f"{SHOWN[key]} {line[key]:.4g}" for key in SHOWN if line.get(key, 0))
        self._bar.set_postfix_str(values)
        if self._bar.disable or SCORE in line:
            self.say(f"step {line['step']}/{self._total}  {line['seconds']:.0f} s  {values}{self._left(line)}")

    def _left(self, line: dict[str, Any]) -> str:
        """The time that the remaining steps will take at the rate since the last line."""
        images = (self._total - line["step"]) * line["images"] / line["step"]
        left = min(images / line["images_per_second"], self._budget - line["seconds"])
        words = f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
        return f"  {words} left" if left > 0 else ""

    def __exit__(self, *_) -> None:
        self._bar.close()


def _event_writer(folder: Path) -> Callable[[dict[str, Any]], None]:
    """A function that writes the finite numbers of a line of metrics as TensorBoard events, on disk when it returns.

    Without tensorboardX there are none, after a line that says so. Its own SummaryWriter leaves writing to a thread,
    which a full disk ends: then training would wait for room in its queue for ever. A run that continues writes the
    steps after its checkpoint again, the same values.
    """
    try:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2
    except ImportError:
        print("no TensorBoard events: tensorboardX is not installed (metrics.jsonl has it all)", file=sys.stderr)
        return lambda line: None
    os.makedirs(folder, exist_ok=True)
    writer, summary = EventsWriter(str(folder / "events")), summary_pb2.Summary

    def write(line: dict[str, Any]) -> None:
        numbers = {name: x for name, x in line.items() if isinstance(x, int | float) and math.isfinite(x)}
        values = [summary.Value(tag=name, simple_value=x) for name, x in numbers.items() if name != "step"]
        writer.write_event(event_pb2.Event(wall_time=time.time(), step=line["step"], summary=summary(value=values)))
        writer.flush()

    return write
