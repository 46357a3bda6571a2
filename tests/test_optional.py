"""Without tfds, array_record, Grain and tensorboardX: training, evaluation and the notebook interface work."""

import dataclasses
import os
import subprocess
import sys
import textwrap

import numpy as np

from hfsgm_jax import Dataset, default_config
from hfsgm_jax.data import SOURCES
from hfsgm_jax.data.resize import resize_images
from scripts import cache_data

PROGRAM = """
    import sys

    class Hide:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in {"tensorflow_datasets", "array_record", "grain", "tensorboardX"}:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Hide())
    import pathlib
    import numpy as np
    import hfsgm_jax
    from hfsgm_jax.run_folder import read_metrics
    from tiny_model import tiny_config

    folder = pathlib.Path(sys.argv[1])
    config = tiny_config()
    config.data.update(source="omniglot", resize="gmn")
    config.model.update(dtype="bfloat16", encoder="8-1", latents="8-1")
    hfsgm_jax.train(config, folder / "run")
    (line,) = read_metrics(folder / "run")
    assert np.isfinite([line["train/loss"], line["val/nelbo"]]).all() and line["skipped"] == 0, line
    assert hfsgm_jax.evaluate(folder / "run", ["likelihood"], max_sets=2)
    few = hfsgm_jax.load(folder / "run")
    assert few.generate(None, num=1, mode="unconditional").shape == (1, 28, 28, 1)
"""


def test_a_cache_file_is_enough(tmp_path, monkeypatch):
    drawings = np.random.default_rng(0).integers(0, 2, (52, 105, 105, 1), np.uint8) * np.uint8(255)
    labels = np.repeat(np.arange(13), 4)
    images = resize_images(drawings, "gmn", 28, 1)
    read = lambda config: Dataset.from_arrays(images, labels, labels % 4, np.where(labels < 10, 0, 2))
    prepared = dict(read=read, key=lambda config: "tfds-3.0.0-train+test")
    monkeypatch.setitem(SOURCES, "omniglot", dataclasses.replace(SOURCES["omniglot"], **prepared))
    config = default_config().data
    config.update(source="omniglot", resize="gmn")
    monkeypatch.setenv("HFSGM_CACHE", str(tmp_path / "raw"))
    cache_data.write(config, None, tmp_path)
    here = os.path.dirname(__file__)
    path = os.pathsep.join([os.path.dirname(here), here])
    environment = os.environ | {"HFSGM_CACHE": str(tmp_path), "PYTHONPATH": path}
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count("no TensorBoard events: tensorboardX is not installed") == 1
