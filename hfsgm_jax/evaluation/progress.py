"""Progress of long work: a bar on a terminal, plain lines otherwise."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

import tqdm

from hfsgm_jax import processes

T = TypeVar("T")
SECONDS = 10.0  # between lines


def progress(items: Sequence[T], label: str) -> Iterator[T]:
    """Passes ``items`` on and says on standard error how far they are, in one of several processes."""
    if not processes.is_writer():
        yield from items
        return
    if sys.stderr.isatty():
        yield from tqdm.tqdm(items, desc=label, unit="batch")
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last > SECONDS:
            last = now
            print(f"{label}: {done}/{len(items)} batches, {now - start:.0f} s", file=sys.stderr, flush=True)
