"""What a run says: metrics.jsonl, TensorBoard, the terminal."""

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import tqdm

from hfsgm_jax.training.events import Events

METRICS_FILE = "metrics.jsonl"


class Clock:
    """Seconds spent inside ``with clock:``, added to those of earlier runs."""

    def __init__(self, seconds: float = 0.0):
        self._done, self._since = seconds, None

    @property
    def seconds(self) -> float:
        return self._done + (time.monotonic() - self._since if self._since is not None else 0.0)

    def __enter__(self) -> "Clock":
        self._since = time.monotonic()
        return self

    def __exit__(self, *_) -> None:
        self._done, self._since = self.seconds, None


def read_metrics(workdir: str | os.PathLike) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``; those that cannot be read (the last one, cut short by a kill) are left out."""
    return [line for line in _lines(Path(workdir) / METRICS_FILE) if line is not None]


def _lines(path: Path) -> list[dict[str, Any] | None]:
    """None for a line that is not one that was written."""
    found = []
    for text in path.read_text(errors="replace").splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
            found.append(line if isinstance(line["step"], int) else None)
        except (ValueError, TypeError, KeyError):
            found.append(None)
    return found


def lost_lines(workdir: str | os.PathLike, step: int, images: int) -> str | None:
    """What ``metrics.jsonl`` lacks of a run that continues, in words, or None.

    Noticed are lines that cannot be read, and that the last ones are gone; not a line that is cut out before others.

    Args:
      step: the step it continues from.
      images: training images of the lines written until then; a line has the sum so far.
    """
    path = Path(workdir) / METRICS_FILE
    lines = _lines(path)
    unreadable = lines[:-1].count(None)  # the last one is what a kill leaves
    reached = [line for line in lines if line is not None and line["step"] <= step]
    last = max(reached, key=lambda line: line["step"], default={"step": 0})
    lost = [f"{unreadable} of its lines cannot be read"] if unreadable else []
    if last.get("images", 0) < images:
        lost.append(f"its lines of steps {last['step'] + 1} to {step} are gone" if path.exists() else "it is gone")
    return f"{path} is not what was written: {' and '.join(lost)}; training does not need them" if lost else None


def drop_metrics_beyond(workdir: str | os.PathLike, step: int) -> None:
    """Rewrites ``metrics.jsonl`` without the lines beyond ``step``, atomically."""
    path = Path(workdir) / METRICS_FILE
    if not path.exists():
        return
    kept = [json.dumps(line) + "\n" for line in read_metrics(workdir) if line["step"] <= step]
    temporary = path.with_suffix(".jsonl.tmp")
    with temporary.open("w") as file:
        file.writelines(kept)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


class Log:
    """Writes each line of metrics everywhere; a progress bar on a terminal, plain lines otherwise.

    Args:
      step, images: where the run continues from: its step, and its training images that lines were written of.
    """

    def __init__(self, workdir: str | os.PathLike, step: int, total_steps: int, progress: bool = True, images: int = 0):
        self._path = Path(workdir) / METRICS_FILE
        lost = lost_lines(workdir, step, images)
        drop_metrics_beyond(workdir, step)
        self._logged = step if self._path.exists() else 0
        self._events = Events(Path(workdir) / "tb", step)
        self._total = total_steps
        on_terminal = progress and sys.stderr.isatty()
        self._bar = tqdm.tqdm(total=total_steps, initial=step, unit="step") if on_terminal else None
        if lost is not None:
            self.say(lost)

    def say(self, text: str) -> None:
        """A line for the user, wherever the bar is."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def advance(self, step: int) -> None:
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def write(self, line: dict[str, Any]) -> None:
        """One line of metrics: ``step``, ``images``, ``seconds`` and whatever was measured."""
        # JSON has no NaN; a value that is not finite is left out of the plots and named in the file.
        safe = {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
        if self._logged and not self._path.exists():
            self.say(f"{self._path} is gone: its lines up to step {self._logged} are lost; training does not need them")
        with self._path.open("a") as file:
            file.write(json.dumps(safe) + "\n")
        self._logged = line["step"]
        self._events.write(line, time.time())
        shown = {
            "train/nelbo": "nelbo",
            "val/nelbo": "val nelbo",
            "images_per_second": "images/s",
            "skipped": "skipped",
        }
        values = [f"{shown[key]} {line[key]:.4g}" for key in shown if key in line and (key != "skipped" or line[key])]
        if self._bar is None:
            self.say(f"step {line['step']}/{self._total}  {line['seconds']:.0f} s  " + "  ".join(values))
        else:
            self._bar.set_postfix_str("  ".join(values))
            if "val/nelbo" in line:
                self.say(f"step {line['step']}: " + "  ".join(values))

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_) -> None:
        self._events.close()
        if self._bar is not None:
            self._bar.close()


class Silent:
    """In place of `Log` in processes that do not write."""

    def __init__(self, *_):
        pass

    def say(self, text: str) -> None:
        pass

    def advance(self, step: int) -> None:
        pass

    def write(self, line: dict[str, Any]) -> None:
        pass

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *_) -> None:
        pass
