"""A user's own silhouettes (npz) and faces (a folder), from the configs for them to evaluated runs; tiny models."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs import faces_vhe_pixelcnn, silhouettes_vhe
from hfsgm_jax.evaluation import Evaluation
from hfsgm_jax.evaluation.run import evaluate
from hfsgm_jax.run_folder import open_run
from hfsgm_jax.training import train

CLASSES, IMAGES = 10, 4


def silhouettes(folder):
    """Boxes, one per class, each a little elsewhere."""
    images = np.zeros((CLASSES * IMAGES, 28, 28), bool)
    for i, image in enumerate(images):
        image[4 + i % IMAGES : 10 + i // IMAGES, 6:20] = True
    path = folder / "silhouettes.npz"
    np.savez(path, images=images, labels=np.repeat(np.arange(CLASSES), IMAGES))
    return path


def faces(folder):
    """A folder per person, of colour images that are no squares."""
    rng = np.random.default_rng(0)
    for person in range(CLASSES):
        path = folder / "faces" / f"person{person}"
        path.mkdir(parents=True)
        for i in range(IMAGES):
            Image.fromarray(rng.integers(0, 256, (50, 44, 3), np.uint8)).save(path / f"{i}.png")
    return folder / "faces"


def shrink(config, folder, path):
    config.data.update(path=str(path), cache_dir=str(folder / "cache"), set_size=2, sets_per_batch=2)
    config.model.update(width=8, encoder_width=2, c_channels=2, z_channels=2, blocks=1)
    if config.model.name == "pixelcnn_vhe":
        config.model.update(pixelcnn_width=4, prior_width=4, context_kernel=3)
    config.train.update(steps=2, log_every=2, eval_every=2, save_every=2, sample_every=0, devices=1, progress=False)
    config.eval.update(val_sets=2, max_sets=2, sets_per_batch=2, importance_samples=2, importance_samples_z=2, chunk=2)


@pytest.mark.parametrize(
    ("make", "experiment", "objective", "shape"),
    [
        (silhouettes, silhouettes_vhe, "vhe", (28, 28, 1)),
        (faces, faces_vhe_pixelcnn, "vhe", (40, 40, 3)),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_trains_and_is_evaluated(make, experiment, objective, shape, tmp_path):
    config = experiment.get_config(objective)
    shrink(config, tmp_path, make(tmp_path))
    assert train(config, tmp_path / "run").step == 2
    run = open_run(tmp_path / "run")
    assert tuple(run.config.image_shape) == shape
    evaluation = Evaluation(Path(tmp_path / "run"), *run)
    outcome = evaluate(evaluation, ["likelihood"])
    assert outcome.status == 0, outcome
    nll = [record for record in outcome.results["likelihood"] if record["name"] == "nll"][-1]
    assert (nll["estimator"], nll["importance_samples"], nll["importance_samples_z"]) == ("nested", 2, 2)
    assert math.isfinite(nll["value"]) and nll["source"] == config.data.source and nll["split"] == "test"
    assert ("bits_per_dim" in nll) == (shape[-1] == 3)
