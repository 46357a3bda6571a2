"""Data: image sources, splits by class, the local cache, sets sampled on the device or read from disk."""

from hfsgm_jax.data.dataset import Dataset, StreamedImages, Table, check_levels, image_shape
from hfsgm_jax.data.fixed_sets import drawn_sets, fixed_sets, independent_pixel_nll, lake_runs, pixels_of
from hfsgm_jax.data.folder import CORRUPT
from hfsgm_jax.data.loading import load_dataset
from hfsgm_jax.data.resize import RESIZES
from hfsgm_jax.data.sets import BINARIZE, SetSpec, draw_sets, finish_sets, sample_sets, set_size_range
from hfsgm_jax.data.sources import ARRAYS, SOURCES, Source
from hfsgm_jax.data.splits import SCHEMES, SPLITS
from hfsgm_jax.data.stream import streamed_sets
