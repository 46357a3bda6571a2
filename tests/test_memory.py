"""Memory that a CPU program frees is there for its next call, away from what a compiler left (hfsgm_jax.memory)."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is one of glibc")
ROOT = Path(__file__).resolve().parent.parent
FAULTS = """
import ctypes, resource, threading
from hfsgm_jax.memory import keep_freed_memory
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


PIECES = """
import ctypes, jax
from hfsgm_jax import memory
memory.keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def resident():
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])

blocks = [libc.malloc(ctypes.c_size_t(20_000)) for _ in range(5000)]
for block in blocks:
    ctypes.memset(block, 1, 20_000)
for block in blocks[::2]:  # a free piece before each block that is kept: 50 MB
    libc.free(block)
before, (event, seconds) = resident(), EVENT
jax.monitoring.record_event_duration_secs(event, seconds)
freed = before - resident()
new = libc.malloc(ctypes.c_size_t(10_000))
kept = all(ctypes.string_at(block, 20_000) == bytes([1]) * 20_000 for block in blocks[1::2])
print(freed, int(new > max(blocks)), int(kept))
"""


def measured(program: str, **variables: str) -> list[int]:
    """The numbers that a new process of ``program`` prints."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    env = {**keep, "JAX_PLATFORMS": "cpu", **variables}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    return [int(number) for number in done.stdout.split()]


def faults_of_second_call(**variables: str) -> int:
    return measured(FAULTS, **variables)[0]


@needs_glibc
def test_freed_memory_is_kept_unless_the_user_set_malloc():
    assert faults_of_second_call() < 1000
    # Set to its default, a variable changes nothing but that it is set.
    assert faults_of_second_call(MALLOC_TOP_PAD_="131072") > 10_000


@needs_glibc
def test_what_a_long_compilation_leaves_is_set_aside():
    compiled = "/jax/core/compile/backend_compile_duration"
    freed, at_the_end, kept = measured(PIECES.replace("EVENT", repr((compiled, 30.0))))
    # Of 20,000 bytes between blocks that are in use at least three whole pages go back.
    assert freed > 2500 * 3 * 4096 and at_the_end and kept


@needs_glibc
def test_other_events_and_short_compilations_move_nothing():
    for event in (("/jax/core/compile/backend_compile_duration", 0.1), ("/jax/other", 30.0)):
        freed, at_the_end, kept = measured(PIECES.replace("EVENT", repr(event)))
        assert freed < 10**6 and not at_the_end and kept


@needs_glibc
def test_a_long_compilation_is_an_event_of_jax():
    program = """
import jax, jax.numpy as jnp
from hfsgm_jax import memory
memory.LONG = 0.0
called = []
memory.set_aside_free_pieces = lambda: called.append(1)
memory.keep_freed_memory()
jax.jit(lambda x: x + 1)(jnp.zeros(3))
print(len(called))
"""
    assert measured(program)[0] > 0
