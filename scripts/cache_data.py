"""Writes the images of a config, resized, as small files that need no tfds: for a machine without it or offline.

python -m scripts.cache_data --config=configs/omniglot_scha_vae_lag.py --out=DIR [--sources=omniglot,mnist]

There, ``--config.data.cache_dir=DIR`` (train.py), ``--data.cache_dir=DIR`` (evaluate.py) or HFSGM_CACHE=DIR read them.
A file holds every split, groups and all that the evaluations need; its sha256 is checked whenever it is read.
"""

import copy
import os

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from hfsgm_jax.data import DataError
from hfsgm_jax.data.cache import export_table
from hfsgm_jax.data.errors import check_choice
from hfsgm_jax.data.resize import resize_for
from hfsgm_jax.data.sources import SOURCES

TEST = 2  # the official part of which evaluations of transfer are


def write(data: ConfigDict, sources: list[str] | None, out: str | os.PathLike) -> list[str]:
    """Writes the tables of these sources (None: ``data.source``); returns the files' paths.

    Args:
      data: the config's section `data`.

    Raises:
      DataError: there is no such source, or its raw data cannot be had.
    """
    paths, sources = [], sources or [data.source]
    for source in sources:
        check_choice("source", source, SOURCES)
    for source in sources:
        own, changed = source == data.source, copy.deepcopy(data)
        changed.resize = resize_for(data.resize, source, not own)
        parts = [None] if not SOURCES[source].by_part else range(3) if own else [TEST]
        paths += [export_table(changed, source, out, part) for part in parts]
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
        except DataError as error:
            raise SystemExit(f"cache_data: {error}") from None
        for path in paths:
            print(f"{path}  {os.path.getsize(path) / 2**20:.1f} MiB")

    app.run(run)


if __name__ == "__main__":
    main()
