"""A user's own silhouettes (npz) and faces (a folder), with the configs for them."""

import math

import numpy as np
from PIL import Image

import hfsgm_jax
from configs import faces_vhe_pixelcnn, silhouettes_vhe
from hfsgm_jax.config import check_config, load_config
from hfsgm_jax.data import load_dataset

CLASSES, IMAGES = 12, 4


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


def shrink(config, path):
    config.data.update(path=str(path), set_size=2, sets_per_batch=2, split="random")
    config.model.update(width=8, c_channels=2, z_channels=2, blocks=1, context_prior="normal")
    config.model.update(pixelcnn_width=4, pixelcnn_layers=1, prior_width=4, context_kernel=3)
    config.train.update(steps=2, log_every=2, eval_every=2, save_every=2, sample_every=0, devices=1)
    config.eval.update(val_sets=2, max_sets=2, sets_per_batch=2, importance_samples=2, importance_samples_z=2)


def test_silhouettes_are_sets_of_binary_images(tmp_path):
    config = silhouettes_vhe.get_config("vhe")
    config.data.path = str(silhouettes(tmp_path))
    config.data.set_size = 2
    check_config(config)
    train = load_dataset(config.data, "train")
    assert train.image_shape == (28, 28, 1) and train.binary and (train.size == IMAGES).all()


def test_faces_train_and_are_evaluated(tmp_path):
    config = faces_vhe_pixelcnn.get_config("vhe")
    shrink(config, faces(tmp_path))
    assert hfsgm_jax.train(config, tmp_path / "run").state.step == 2
    assert tuple(load_config(tmp_path / "run").image_shape) == (40, 40, 3)
    records = hfsgm_jax.evaluate(tmp_path / "run", "likelihood")
    nll = [record for record in records if record["name"] == "nll"][-1]
    assert (nll["estimator"], nll["importance_samples"], nll["importance_samples_z"]) == ("nested", 2, 2)
    assert math.isfinite(nll["value"]) and nll["source"] == "folder" and nll["split"] == "test"
    assert "bits_per_dim" in nll
