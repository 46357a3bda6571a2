"""What a run says: metrics.jsonl, TensorBoard, the terminal."""

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import tqdm
from tensorboardX import SummaryWriter

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
    """The lines of ``metrics.jsonl``; a last line cut short by a kill is left out."""
    path = Path(workdir) / METRICS_FILE
    lines = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return lines


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
    """Writes each line of metrics everywhere; a progress bar on a terminal, plain lines otherwise."""

    def __init__(self, workdir: str | os.PathLike, step: int, total_steps: int, progress: bool = True):
        drop_metrics_beyond(workdir, step)
        self._file = (Path(workdir) / METRICS_FILE).open("a")
        self._tensorboard = SummaryWriter(str(Path(workdir) / "tb"), purge_step=step + 1 if step else None)
        self._total = total_steps
        on_terminal = progress and sys.stderr.isatty()
        self._bar = tqdm.tqdm(total=total_steps, initial=step, unit="step") if on_terminal else None

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
        self._file.write(json.dumps(safe) + "\n")
        self._file.flush()
        for name, value in line.items():
            if name != "step" and isinstance(value, int | float) and math.isfinite(value):
                self._tensorboard.add_scalar(name, value, line["step"])
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
        self._file.close()
        self._tensorboard.close()
        if self._bar is not None:
            self._bar.close()
