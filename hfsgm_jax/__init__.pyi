"""What `__init__.py` imports when it is used, for editors and type checkers."""

from hfsgm_jax.api import FewShotModel as FewShotModel
from hfsgm_jax.api import load as load
from hfsgm_jax.config import default_config as default_config
from hfsgm_jax.data import Dataset as Dataset
from hfsgm_jax.evaluation import evaluate as evaluate
from hfsgm_jax.models import SetModel as SetModel
from hfsgm_jax.models import build_model as build_model
from hfsgm_jax.objectives import elbo as elbo
from hfsgm_jax.objectives import joint_bounds as joint_bounds
from hfsgm_jax.objectives import log_weight as log_weight
from hfsgm_jax.objectives import loss_sums as loss_sums
from hfsgm_jax.objectives import nested_bounds as nested_bounds
from hfsgm_jax.run_folder import export as export
from hfsgm_jax.shipped import pretrained as pretrained
from hfsgm_jax.trace import Plan as Plan
from hfsgm_jax.trace import Sets as Sets
from hfsgm_jax.training import setup as setup
from hfsgm_jax.training import train as train

__version__: str
