"""The family of models: one traversal (`base`) and small constructors (`build`)."""

from hfsgm_jax.models.base import SetModel
from hfsgm_jax.models.build import build_model, check_model

__all__ = ["SetModel", "build_model", "check_model"]
