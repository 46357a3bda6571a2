"""Data: image sources, splits by class, the local cache, and sets sampled on the device."""

from hfsgm_jax.data.baseline import independent_pixel_nll
from hfsgm_jax.data.dataset import Dataset, image_shape, load_dataset
from hfsgm_jax.data.errors import DataError
from hfsgm_jax.data.fixed_sets import fixed_sets
from hfsgm_jax.data.sets import Batch, ClassTable, SetSpec, sample_sets

__all__ = [
    "Batch",
    "ClassTable",
    "DataError",
    "Dataset",
    "SetSpec",
    "fixed_sets",
    "image_shape",
    "independent_pixel_nll",
    "load_dataset",
    "sample_sets",
]
