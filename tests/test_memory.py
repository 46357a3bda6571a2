"""Memory that a program frees on a CPU is there for its next call (mesh.keep_freed_memory)."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FAULTS = """
import ctypes, resource, threading
from hfsgm_jax.mesh import keep_freed_memory
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


def faults_of_second_call(**variables: str) -> int:
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    env = {**keep, "JAX_PLATFORMS": "cpu", **variables}
    done = subprocess.run([sys.executable, "-c", FAULTS], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is one of glibc")
def test_freed_memory_is_kept_unless_the_user_set_malloc():
    assert faults_of_second_call() < 1000
    # Set to its default, a variable changes nothing but that it is set.
    assert faults_of_second_call(MALLOC_TOP_PAD_="131072") > 10_000
