"""Writes the images of a config, resized, as small files that need no tfds: for a machine without it or offline.

python -m scripts.cache_data --config=configs/omniglot_scha_vae_lag.py --out=DIR [--sources=omniglot,mnist]

There, HFSGM_CACHE=DIR reads them. A file holds every split, groups and all that the evaluations need;
damage is noticed when it is read.
"""

import os

import numpy as np
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from hfsgm_jax.data import cache
from hfsgm_jax.data.loading import source_config
from hfsgm_jax.errors import UserError

TEST = 2  # the official part of which evaluations of transfer are


def write(data: ConfigDict, sources: list[str] | None, out: str | os.PathLike) -> list[str]:
    """Writes the images of these sources (None: ``data.source``), compressed; returns the files' paths.

    Args:
      data: the config's section `data`.

    Raises:
      DataError: there is no such source, or its raw data cannot be had.
    """
    paths = []
    for name in sources or [data.source]:
        config, source = source_config(data, name)
        parts = [()] if not source.by_part else [(part,) for part in ((0, 1, 2) if name == data.source else (TEST,))]
        for part in parts:
            dataset = cache.load(config, name, source, *part)
            paths.append(os.path.join(out, os.path.basename(cache.find(config, name, source, *part))))
            cache.write(paths[-1], dataset, np.savez_compressed)
    return paths


def main() -> None:
    config = config_flags.DEFINE_config_file("config", None, "file of the configuration whose data are meant")
    out = flags.DEFINE_string("out", None, "folder for the files; made if need be")
    sources = flags.DEFINE_list("sources", None, "sources; default: data.source. Others are for eval.transfer")
    flags.mark_flags_as_required(["config", "out"])

    def run(argv: list[str]) -> None:
        del argv
        try:
            paths = write(config.value.data, sources.value, out.value)
        except UserError as error:
            raise SystemExit(f"cache_data: {error}") from None
        for path in paths:
            print(f"{path}  {os.path.getsize(path) / 2**20:.1f} MiB")

    app.run(run)


if __name__ == "__main__":
    main()
