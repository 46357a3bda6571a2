"""Training: setup, state, optimizer, the compiled step, checkpoints, and the loop that runs them."""

from hfsgm_jax.training.loop import NonFiniteError, Summary, train
from hfsgm_jax.training.setup import Setup, setup
from hfsgm_jax.training.state import TrainState
from hfsgm_jax.training.storage import StorageError

__all__ = ["NonFiniteError", "Setup", "StorageError", "Summary", "TrainState", "setup", "train"]
