"""Few-shot generative models of image sets: Neural Statistician, SCHA-VAE, Variational Homoencoder."""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Dataset", "FewShotModel", "Plan", "SetModel", "Sets", "build_model", "default_config", "elbo", "evaluate"]
__all__ += ["export", "joint_bounds", "load", "log_weight", "loss_sums", "nested_bounds"]
__all__ += ["pretrained", "setup", "train"]

if TYPE_CHECKING:
    from hfsgm_jax.api import FewShotModel, load
    from hfsgm_jax.config import default_config
    from hfsgm_jax.data import Dataset
    from hfsgm_jax.evaluation import evaluate
    from hfsgm_jax.models import SetModel, build_model
    from hfsgm_jax.objectives import elbo, joint_bounds, log_weight, loss_sums, nested_bounds
    from hfsgm_jax.run_folder import export
    from hfsgm_jax.shipped import pretrained
    from hfsgm_jax.trace import Plan, Sets
    from hfsgm_jax.training import setup, train

_OF = dict(FewShotModel="api", load="api", default_config="config", Dataset="data", evaluate="evaluation")
_OF |= dict(SetModel="models", build_model="models", Plan="trace", Sets="trace")
_OF |= dict(export="run_folder", pretrained="shipped")
_OF |= dict.fromkeys(["elbo", "joint_bounds", "log_weight", "loss_sums", "nested_bounds"], "objectives")
_OF |= dict(setup="training", train="training")


def __getattr__(name: str) -> Any:
    # Imported when used, so that `import hfsgm_jax` does not import JAX.
    if name not in _OF and importlib.util.find_spec(f"hfsgm_jax.{name}") is None:
        raise AttributeError(f"module 'hfsgm_jax' has no attribute {name!r}")
    module = importlib.import_module(f"hfsgm_jax.{_OF.get(name, name)}")
    return getattr(module, name) if name in _OF else module
