"""Data: image sources, splits by class, the local cache, sets sampled on the device or read from disk."""

from hfsgm_jax.data.baseline import independent_pixel_nll
from hfsgm_jax.data.dataset import Dataset, check_data, image_shape, load_dataset
from hfsgm_jax.data.errors import DataError
from hfsgm_jax.data.feed import streamed_sets
from hfsgm_jax.data.fixed_sets import drawn_sets, fixed_sets
from hfsgm_jax.data.lake import lake_runs, run_places
from hfsgm_jax.data.sets import Batch, ClassTable, Drawn, SetSpec, draw_sets, finish_sets, sample_sets
from hfsgm_jax.data.streamed import StreamedImages

__all__ = [
    "Batch",
    "ClassTable",
    "DataError",
    "Dataset",
    "Drawn",
    "SetSpec",
    "StreamedImages",
    "check_data",
    "draw_sets",
    "drawn_sets",
    "finish_sets",
    "fixed_sets",
    "image_shape",
    "independent_pixel_nll",
    "lake_runs",
    "load_dataset",
    "run_places",
    "sample_sets",
    "streamed_sets",
]
