"""Few-shot generative models of image sets: Neural Statistician, SCHA-VAE, Variational Homoencoder."""

import importlib
import importlib.util
from typing import Any

__version__ = "0.1.0"
_OF = dict(FewShotModel="api", load="api", default_config="config", Dataset="data", evaluate="evaluation")
_OF |= dict(SetModel="models", build_model="models", Plan="trace", Sets="trace")
_OF |= dict(export="run_folder", pretrained="shipped")
_OF |= dict.fromkeys(["elbo", "joint_bounds", "log_weight", "loss_sums", "nested_bounds"], "objectives")
_OF |= dict(setup="training", train="training")
__all__ = sorted(_OF)


def __getattr__(name: str) -> Any:
    # Imported when used, so that `import hfsgm_jax` does not import JAX; __init__.pyi tells editors and type checkers.
    if name not in _OF and importlib.util.find_spec(f"hfsgm_jax.{name}") is None:
        raise AttributeError(f"module 'hfsgm_jax' has no attribute {name!r}")
    module = importlib.import_module(f"hfsgm_jax.{_OF.get(name, name)}")
    return getattr(module, name) if name in _OF else module
