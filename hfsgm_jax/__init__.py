"""Few-shot generative models of image sets, from the Neural Statistician to SCHA-VAE."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["build_model", "export", "load"]

if TYPE_CHECKING:
    from hfsgm_jax.api import export, load
    from hfsgm_jax.models import build_model


def __getattr__(name: str):
    # Imported when used, so that `import hfsgm_jax` does not import JAX.
    if name in ("export", "load"):
        from hfsgm_jax import api

        return getattr(api, name)
    if name == "build_model":
        from hfsgm_jax.models import build_model

        return build_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
