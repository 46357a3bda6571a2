"""Training: setup, state, optimizer, the compiled step, checkpoints, and the loop that runs them."""

from hfsgm_jax.training.checkpoint import StorageError
from hfsgm_jax.training.loop import NonFiniteError, Summary, train
from hfsgm_jax.training.setup import Setup, setup
from hfsgm_jax.training.state import TrainState

__all__ = ["NonFiniteError", "Setup", "StorageError", "Summary", "TrainState", "setup", "train"]
