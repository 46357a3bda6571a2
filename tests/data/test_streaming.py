"""Sets read from disk: the same batches as from memory, whatever the step that reading starts at."""

import contextlib
import dataclasses
import os

import chex
import jax
import numpy as np
import pytest
from PIL import Image

from hfsgm_jax import data
from hfsgm_jax.data import Dataset, SetSpec, StreamedImages, fixed_sets, folder, load_dataset, sample_sets, styles
from hfsgm_jax.errors import DataError

LAST = 6  # steps


def key_of(step):
    return jax.random.fold_in(jax.random.key(5), step)


def load(config, split="train", stream=True):
    config.stream = stream
    return load_dataset(config, split)


def batches(dataset, spec, start, stop=LAST, rows=None):
    rows = rows or range(spec.rows)
    with contextlib.closing(data.streamed_sets(dataset, spec, key_of, start, stop, rows)) as reading:
        return list(reading)


@pytest.fixture
def faces(config, tmp_path):
    """A data section of a folder of 30 classes, 3 to 7 images each; 21 of training, 3 of validation."""
    rng = np.random.default_rng(0)
    for k in range(30):
        (tmp_path / "faces" / f"class{k:02}").mkdir(parents=True)
        for i in range(3 + k % 5):
            image = rng.integers(0, 256, (12 + i, 10 + k, 3), np.uint8)
            Image.fromarray(image).save(tmp_path / "faces" / f"class{k:02}" / f"{i}.png")
    config.update(source="folder", path=str(tmp_path / "faces"), image_size=8, channels=3, binarize="none")
    config.update(set_size=3, sets_per_batch=8)
    return config


@pytest.fixture
def decoded(monkeypatch):
    """The files that were decoded."""
    files, read = [], folder._read_image
    monkeypatch.setattr(folder, "_read_image", lambda file, *look: files.append(file) or read(file, *look))
    return files


@pytest.mark.parametrize("set_size, options", [(3, {}), ((2, 7), dict(flip=True, dihedral=True, binarize="dynamic"))])
def test_batches_are_those_of_memory(faces, set_size, options):
    faces.update(options)
    streamed, held = load(faces), load(faces, stream=False)
    faces.set_size = set_size
    spec = SetSpec.from_config(faces)
    read = batches(streamed, spec, 0, 3)
    assert len(read) == 3
    for step, sets in enumerate(read):
        assert sets.images.dtype == np.uint8 and sets.images.shape == (8, spec.high, 8, 8, 3)
        finished = data.finish_sets(sets, key_of(step), spec)
        from_memory = sample_sets(held.table(), key_of(step), spec)
        chex.assert_trees_all_equal(finished, from_memory)
        chex.assert_trees_all_equal_dtypes(finished, from_memory)


@pytest.mark.parametrize(
    "beside", [dict(group_size=4), dict(styles=3, style_size=4), {"group_size": 2, "replace": True}]
)
def test_groups_and_styles_are_streamed_too(beside):
    drawings = np.random.default_rng(0).integers(0, 256, (36, 6, 6, 1), np.uint8).repeat(3, -1)
    held = Dataset.from_arrays(drawings, np.arange(36) // 6, np.arange(36) // 12, info={"styles": 3})
    held.style = styles.assign(36, 3) if "styles" in beside else None
    images = StreamedImages(lambda position: drawings[position], np.arange(36), (6, 6, 3))
    streamed = dataclasses.replace(held, images=images)
    spec = SetSpec(rows=4, low=1, high=2, targets=1, **beside)
    for step, sets in enumerate(batches(streamed, spec, 0, 2)):
        expected = sample_sets(held.table(), key_of(step), spec)
        assert sets.images.shape == expected.images.shape
        chex.assert_trees_all_close(data.finish_sets(sets, key_of(step), spec), expected, atol=1e-6)


def test_reading_may_start_at_any_step_and_row(faces, decoded):
    dataset, spec = load(faces), SetSpec.from_config(faces)
    whole = batches(dataset, spec, 0)
    assert len(whole) == LAST and (whole[0].images != whole[1].images).any()
    for start in (1, 4):
        chex.assert_trees_all_equal(batches(dataset, spec, start), whole[start:])
    assert batches(dataset, spec, LAST) == []
    decoded.clear()
    part = batches(dataset, spec, 0, 2, rows=(4, 5, 6, 7))
    assert len(decoded) == 2 * 4 * 3  # a process reads its rows alone
    chex.assert_trees_all_equal(part, [jax.tree.map(lambda x: x[4:], sets) for sets in whole[:2]])


def test_a_second_start_decodes_nothing_before_it_is_needed(faces, decoded, own_cache):
    assert load(faces).num_classes == 21 and len(decoded) == 150  # all are read once, to see that they can be
    decoded.clear()
    dataset = load(faces)
    assert not decoded and dataset.images.shape[1:] == (8, 8, 3)
    (cached,) = os.listdir(own_cache)
    assert "index" in cached and os.path.getsize(own_cache / cached) < 10_000  # where images are, not their pixels
    reading = data.streamed_sets(dataset, SetSpec.from_config(faces), key_of, 0, 10**9, range(8))
    next(reading)
    reading.close()
    assert 3 * 8 <= len(decoded) < 300
    os.unlink(decoded[0])
    with pytest.raises(DataError, match="FileNotFound"):
        dataset.images[:]


def test_streamed_images_are_indexed_like_an_array(faces):
    streamed, held = load(faces).images, load(faces, stream=False).images
    assert isinstance(streamed, StreamedImages)
    assert (streamed.shape, streamed.dtype, len(streamed)) == (held.shape, held.dtype, len(held))
    mask = np.arange(len(held)) % 40 == 0
    for index in (7, -1, np.int32(3), slice(2, 9, 3), [5, 1], np.array([[0, 99], [4, 4]]), mask, np.zeros(0, int)):
        np.testing.assert_array_equal(streamed[index], held[index])
        assert streamed[index].dtype == np.uint8
    with pytest.raises(IndexError):
        streamed[300]


def test_evaluations_take_streamed_data(faces):
    streamed, held = load(faces, "val"), load(faces, "val", stream=False)
    chex.assert_trees_all_equal(fixed_sets(streamed, 3, 9, 0, "none"), fixed_sets(held, 3, 9, 0, "none"))
    sets = [fixed_sets(streamed, size, 0, 4, "dynamic") for size in (3, 1)]
    first, alone = ({(c, m[0]): x[0] for c, m, x in zip(s.ids["set"], s.member, s.images)} for s in sets)
    for name in first.keys() & alone.keys():  # the binarisation is the image's own
        np.testing.assert_array_equal(first[name], alone[name])
    nll = [data.independent_pixel_nll(train, held.images / 255) for train in (streamed, held)]
    assert nll[0] == pytest.approx(nll[1])
    assert streamed.info["sha256"] != load(faces, "test").info["sha256"]
    faces.update(heldout=1, set_size=2)
    for split in ("train", "heldout"):
        np.testing.assert_array_equal(load(faces, split).images[:], load(faces, split, stream=False).images)
