"""Memory that a CPU program frees is there for its next call, away from what a compiler left (hfsgm_jax.devices)."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is one of glibc")
ROOT = Path(__file__).resolve().parent.parent
FAULTS = """
import ctypes, resource, threading
from hfsgm_jax.devices import keep_freed_memory
keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def fill():  # 64 MiB: 16,384 pages
    block = libc.malloc(ctypes.c_size_t(2**26))
    ctypes.memset(block, 1, 2**26)
    libc.free(block)

for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=fill)  # as XLA, whose threads ask for the memory of a program
    thread.start()
    thread.join()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""
# A free piece before each block that is kept, 50 MB; then events that are no long compilation, and one that is.
PIECES = """
import ctypes, jax
from hfsgm_jax import devices
devices.keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def resident():
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])

blocks = [libc.malloc(ctypes.c_size_t(20_000)) for _ in range(5000)]
for block in blocks:
    ctypes.memset(block, 1, 20_000)
for block in blocks[::2]:
    libc.free(block)
compiled = "/jax/core/compile/backend_compile_duration"
for event, seconds in (("/jax/other", 30.0), (compiled, 0.1), (compiled, 30.0)):
    before = resident()
    jax.monitoring.record_event_duration_secs(event, seconds)
    freed = before - resident()
    new = libc.malloc(ctypes.c_size_t(10_000))
    kept = all(ctypes.string_at(block, 20_000) == bytes([1]) * 20_000 for block in blocks[1::2])
    print(freed, int(new > max(blocks)), int(kept))
called = []
devices.LONG, devices.set_aside_free_pieces = 0.0, lambda: called.append(1)
jax.jit(lambda x: x + 1)(3.0)
print(len(called))
"""


def measured(program: str, **variables: str) -> list[list[int]]:
    """The numbers of every line that a new process of ``program`` prints."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    env = {**keep, "JAX_PLATFORMS": "cpu", **variables}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return [[int(number) for number in line.split()] for line in done.stdout.splitlines()]


def test_freed_memory_is_kept_unless_the_user_set_malloc():
    assert measured(FAULTS)[0][0] < 1000
    # Set to its default, a variable changes nothing but that it is set.
    assert measured(FAULTS, MALLOC_TOP_PAD_="131072")[0][0] > 10_000


def test_pieces_that_a_long_compilation_leaves_are_set_aside():
    *others, (freed, at_the_end, kept), (called,) = measured(PIECES)
    assert all(freed < 10**6 and not at_the_end and kept for freed, at_the_end, kept in others)
    # Of 20,000 bytes between blocks that are in use at least three whole pages go back.
    assert freed > 2490 * 3 * 4096 and at_the_end and kept
    assert called > 0
