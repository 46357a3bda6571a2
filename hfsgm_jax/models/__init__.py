"""The family of models: one traversal (`base`), and constructors beside the nodes of each family.

`MODELS` maps names to constructors ``(image_shape, *, keywords) -> SetModel``; `constructor` adds one.
"""

from hfsgm_jax.models.base import Node, SetModel, abstract_variables
from hfsgm_jax.models.constructor import MODELS, build_model, constructor
from hfsgm_jax.models.homoencoder import factorial_vhe, pixelcnn_vhe
from hfsgm_jax.models.neural_statistician import bns, chfsgm, cns, hfsgm, hierarchical_vhe, ns, vae
from hfsgm_jax.models.scha_vae import scha_vae

__all__ = ["MODELS", "Node", "SetModel", "abstract_variables", "build_model", "constructor"]
__all__ += ["vae", "bns", "ns", "cns", "hfsgm", "chfsgm", "hierarchical_vhe"]
__all__ += ["scha_vae", "pixelcnn_vhe", "factorial_vhe"]
