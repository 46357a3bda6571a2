"""Training: state, optimizer, the compiled step, checkpoints, and the loop that runs them."""

from hfsgm_jax.training.checkpoint import CheckpointError, Checkpoints, load_variables
from hfsgm_jax.training.loop import NonFiniteError, Summary, train
from hfsgm_jax.training.storage import StorageError

__all__ = ["CheckpointError", "Checkpoints", "NonFiniteError", "StorageError", "Summary", "load_variables", "train"]
