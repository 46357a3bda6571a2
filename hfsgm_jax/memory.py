"""The memory of a process that computes on a CPU: what XLA frees stays, and its compiler's leftovers are set aside.

XLA takes and frees the memory of a CPU program, and of many of its operations, at every call. The C library decides
what that costs. glibc would give large blocks back to the system, which clears them page by page at the next call; and
a compilation leaves hundreds of thousands of free pieces between what it keeps, among which every later request is
searched: training steps take much longer than those of the same program read from the compilation cache.
Other libraries and accelerators are left alone.
"""

import ctypes
import functools
import importlib.metadata
import importlib.util
import mmap
import os
import platform

import jax

COMPILED = "/jax/core/compile/backend_compile_duration"
LONG = 1.0  # seconds of compilation, of which setting aside takes about a hundredth
LARGEST, SMALLEST, EVEN = 2**26, 48, 16  # bytes of the pieces asked for, and what glibc rounds sizes to
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # malloc.h
MADV_DONTNEED = 4


class _Usage(ctypes.Structure):
    """``struct mallinfo2`` of malloc.h."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


@functools.cache  # once per process
def keep_freed_memory() -> None:
    """Without an accelerator: memory that a program frees stays with the process, in one piece.

    Does nothing where JAX may find an accelerator, with another C library, or where the user set one of glibc's
    variables ``MALLOC_...``.
    """
    plugins = importlib.metadata.entry_points(group="jax_plugins") or importlib.util.find_spec("libtpu")
    chosen = any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get(
        "GLIBC_TUNABLES", ""
    )
    if platform.libc_ver()[0] != "glibc" or chosen or (plugins and os.environ.get("JAX_PLATFORMS") != "cpu"):
        return
    mallopt = ctypes.CDLL(None).mallopt
    # One arena for all threads, as others are too small; no block by mmap; nothing given back from the top.
    for parameter, value in ((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1)):
        mallopt(parameter, value)
    jax.monitoring.register_event_duration_secs_listener(_after_event)


def _after_event(event: str, seconds: float, **_) -> None:
    if event == COMPILED and seconds > LONG:
        set_aside_free_pieces()


def set_aside_free_pieces() -> int:
    """Takes every free piece of glibc's heap out of use, but the one at its end; returns their bytes.

    They are asked for and never given back: whole pages of theirs return to the system, so that the process becomes
    smaller, and what is asked for from now on lies together at the end of the heap. Meant for the moment after a long
    compilation.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):  # glibc before 2.33
        return 0
    libc.mallinfo2.restype = _Usage
    libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
    libc.malloc.argtypes, libc.sbrk.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_long], [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    last_piece = libc.sbrk(0) - libc.mallinfo2().keepcost
    taken, size = 0, LARGEST
    while size >= SMALLEST:
        piece = libc.malloc(size)
        if piece is None or piece >= last_piece:  # no free piece of this size is left before it
            libc.free(piece)
            size = int(0.8 * size) // EVEN * EVEN
            continue
        first, end = -(-piece // mmap.PAGESIZE) * mmap.PAGESIZE, (piece + size) // mmap.PAGESIZE * mmap.PAGESIZE
        if end > first:
            libc.madvise(first, end - first, MADV_DONTNEED)
        taken += size
    return taken
