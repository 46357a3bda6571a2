"""Description of a training that is not run."""

import contextlib

import jax

from hfsgm_jax import devices
from hfsgm_jax.training.setup import Setup


def dry_run(s: Setup) -> str:
    """A line on this process's part of every step and, by the compiled step, what a device of it needs."""
    with contextlib.closing(s.batches(0)) as batches:
        batch = next(batches)
    memory = s.step.lower(s.abstract_state, batch).compile().memory_analysis()
    rows = devices.local_rows(s.mesh, s.config.data.sets_per_batch)
    size = lambda count: f"{count / 2**30:.3g} GiB" if count > 2**30 else f"{count / 2**20:.3g} MiB"
    mine = f"{len(s.mesh.local_devices)} of {s.mesh.size} devices ({s.mesh.local_devices[0].device_kind})"
    images = sum(leaf.nbytes // (s.mesh.size if s.config.data.stream else 1) for leaf in jax.tree.leaves(batch.data))
    return (
        f"process {jax.process_index()} of {jax.process_count()}: {mine}, sets {rows[0]} to {rows[-1]} of "
        f"{s.config.data.sets_per_batch}; a device needs {size(memory.argument_size_in_bytes)} of state and images "
        f"(images: {size(images)}) and {size(memory.temp_size_in_bytes)} of temporaries; nothing was trained"
    )
