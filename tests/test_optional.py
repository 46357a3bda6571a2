"""Without tfds, array_record, Grain and tensorboardX: training, evaluation and the notebook interface work."""

import dataclasses
import os
import subprocess
import sys
import textwrap

import numpy as np

from configs import base
from hfsgm_jax.data import sources
from hfsgm_jax.data.cache import export_table
from hfsgm_jax.data.raw import Raw

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
    from hfsgm_jax.evaluation import Evaluation
    from hfsgm_jax.evaluation.run import evaluate
    from hfsgm_jax.run_folder import open_run
    from hfsgm_jax.training import train
    from hfsgm_jax.training.log import read_metrics
    from tiny_model import tiny_config

    folder = pathlib.Path(sys.argv[1])
    config = tiny_config()
    config.data.update(source="omniglot", resize="gmn", cache_dir=str(folder))
    config.model.dtype = "bfloat16"
    config.train.steps_per_dispatch = 2
    train(config, folder / "run")
    (line,) = read_metrics(folder / "run")
    assert np.isfinite([line["train/loss"], line["val/nelbo"]]).all() and line["skipped"] == 0, line
    run = open_run(folder / "run", overrides={"eval.max_sets": 2})
    outcome = evaluate(Evaluation(folder / "run", run.config, run.model, run.variables, run.step), ["likelihood"])
    assert outcome.status == 0
    few = hfsgm_jax.load(folder / "run")
    assert few.generate(None, num=1, mode="unconditional").shape == (1, 28, 28, 1)
"""


def test_a_cache_file_is_enough(tmp_path, monkeypatch):
    drawings = np.random.default_rng(0).integers(0, 2, (52, 105, 105, 1), np.uint8) * np.uint8(255)
    labels = np.repeat(np.arange(13), 4)
    entry = sources.SOURCES["omniglot"]
    read = lambda config: Raw(drawings, labels, labels % 4, np.where(labels < 10, 0, 2))  # noqa: E731
    monkeypatch.setitem(sources.SOURCES, "omniglot", dataclasses.replace(entry, read=read))
    config = base.get_config().data
    config.update(source="omniglot", resize="gmn", cache_dir=str(tmp_path / "raw"))
    export_table(config, "omniglot", tmp_path)
    here = os.path.dirname(__file__)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(here), here])}
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count("no TensorBoard events: tensorboardX is not installed") == 1
