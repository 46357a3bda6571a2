"""Writes the images of a config, resized, as small files that need no tfds: for a machine without it or offline.

python -m scripts.cache_data --config=configs/omniglot_scha_vae_lag.py --out=DIR [--sources=omniglot,mnist]

There, HFSGM_CACHE=DIR reads them. A file holds every split, groups and all that the evaluations need;
damage is noticed when it is read.
"""

import argparse
import os

import numpy as np
from ml_collections import ConfigDict

from hfsgm_jax.data import cache
from hfsgm_jax.data.loading import source_config
from hfsgm_jax.errors import UserError
from hfsgm_jax.programs import parse
from hfsgm_jax.programs.train import load_config_file

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
    parser = argparse.ArgumentParser("cache_data", description=__doc__)
    parser.add_argument("--config", required=True, help="file of the configuration whose data are meant")
    parser.add_argument("--out", required=True, help="folder for the files; made if need be")
    parser.add_argument("--sources", help="default: data.source; others are for eval.transfer")
    options, given = parse(parser, None, "config.")
    try:
        data = load_config_file(options.config, given).data
        paths = write(data, options.sources and options.sources.split(","), options.out)
    except UserError as error:
        raise SystemExit(f"cache_data: {error}") from None
    for path in paths:
        print(f"{path}  {os.path.getsize(path) / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
