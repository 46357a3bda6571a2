"""Sets read from disk: the same batches as from memory, whatever the step that reading starts at."""

import contextlib
import dataclasses
import os

import chex
import jax
import numpy as np
import pytest

from hfsgm_jax.data import (
    DataError,
    Dataset,
    SetSpec,
    StreamedImages,
    finish_sets,
    fixed_sets,
    independent_pixel_nll,
    load_dataset,
    sample_sets,
    streamed_sets,
    styles,
    tfds_sources,
)

LAST = 6  # steps


def key_of(step):
    return jax.random.fold_in(jax.random.key(5), step)


def load(config, split="train", stream=True):
    config.stream = stream
    return load_dataset(config, split)


def batches(dataset, spec, start, stop=LAST, rows=None):
    with contextlib.closing(streamed_sets(dataset, spec, key_of, start, stop, rows)) as reading:
        return list(reading)


@pytest.fixture
def decoded(monkeypatch):
    """The number of images decoded at each reading."""
    counts = []
    take = tfds_sources.TfdsImages.take

    def counted(self, index):
        counts.append(len(index))
        return take(self, index)

    monkeypatch.setattr(tfds_sources.TfdsImages, "take", counted)
    return counts


@pytest.mark.parametrize("set_size, options", [(3, {}), ((2, 7), dict(flip=True, dihedral=True, binarize="dynamic"))])
def test_batches_are_those_of_memory(cifar, set_size, options):
    cifar.update(set_size=3, **options)
    streamed, held = load(cifar), load(cifar, stream=False)
    with cifar.unlocked():
        cifar.set_size = set_size
    spec = SetSpec.from_config(cifar)
    read = batches(streamed, spec, 0, 3)
    assert len(read) == 3
    for step, drawn in enumerate(read):
        assert drawn.images.dtype == np.uint8 and drawn.images.shape == (8, spec.high, 32, 32, 3)
        finished = finish_sets(drawn, key_of(step), spec)
        from_memory = sample_sets(held.on_device(), key_of(step), spec)
        chex.assert_trees_all_equal(finished, from_memory)
        chex.assert_trees_all_equal_dtypes(finished, from_memory)


@dataclasses.dataclass(frozen=True)
class OnDisk:
    """What `StreamedImages` reads from."""

    images: np.ndarray

    def __len__(self):
        return len(self.images)

    def take(self, index):
        return list(self.images[index])

    def subset(self, index):
        return OnDisk(self.images[index])


@pytest.mark.parametrize(
    "beside", [dict(group_size=4), dict(styles=3, style_size=4), {"group_size": 2, "replace": True}]
)
def test_groups_and_styles_are_streamed_too(beside):
    drawings = np.random.default_rng(0).integers(0, 256, (36, 6, 6, 1), np.uint8).repeat(3, -1)
    start, size, classes = np.arange(6, dtype=np.int32) * 6, np.full(6, 6, np.int32), np.arange(6, dtype=np.int32)
    style = styles.assign(36, 3) if "styles" in beside else None
    held = Dataset(drawings, start, size, classes, classes // 2, {"styles": 3}, style)
    streamed = dataclasses.replace(held, images=StreamedImages(OnDisk(drawings), "box", 6, 3))
    spec = SetSpec(rows=4, low=1, high=2, targets=1, **beside)
    for step, drawn in enumerate(batches(streamed, spec, 0, 2)):
        assert drawn.images.shape == (4, spec.num_slots, 6, 6, 3)
        expected = sample_sets(held.on_device(), key_of(step), spec)
        chex.assert_trees_all_close(finish_sets(drawn, key_of(step), spec), expected, atol=1e-6)


def test_reading_may_start_at_any_step(cifar):
    dataset, spec = load(cifar), SetSpec.from_config(cifar)
    whole = batches(dataset, spec, 0)
    assert len(whole) == LAST and (whole[0].images != whole[1].images).any()
    for start in (1, 4):
        chex.assert_trees_all_equal(batches(dataset, spec, start), whole[start:])
    assert batches(dataset, spec, LAST) == []


def test_a_process_reads_its_rows_alone(cifar, decoded):
    dataset, spec = load(cifar), SetSpec.from_config(cifar)
    whole = batches(dataset, spec, 0, 2)
    decoded.clear()
    part = batches(dataset, spec, 0, 2, rows=(4, 5, 6, 7))
    assert sum(decoded) == 2 * 4 * 3
    chex.assert_trees_all_equal(part, [jax.tree.map(lambda x: x[4:], batch) for batch in whole])


def test_nothing_is_decoded_before_it_is_needed(cifar, decoded, tmp_path, monkeypatch):
    cifar.cache_dir = str(tmp_path)
    dataset = load(cifar)
    assert not decoded and (dataset.num_classes, dataset.images.shape) == (60, (300, 32, 32, 3))
    (cached,) = os.listdir(tmp_path)
    assert os.path.getsize(tmp_path / cached) < 32 * 32 * 3 * 20  # where the images are, not what they show
    reading = streamed_sets(dataset, SetSpec.from_config(cifar), key_of, 0, 10**9)
    next(reading)
    reading.close()
    assert max(decoded) == 3 and sum(decoded) < 300
    monkeypatch.setattr(tfds_sources.TfdsImages, "fields", None)  # a second start takes the labels from the cache
    assert load(cifar, "val").info["num_images"] == 100


def test_streamed_images_are_indexed_like_an_array(cifar):
    streamed, held = load(cifar).images, load(cifar, stream=False).images
    assert isinstance(streamed, StreamedImages)
    assert (streamed.shape, streamed.dtype, streamed.ndim, len(streamed)) == (held.shape, held.dtype, 4, len(held))
    mask = np.arange(300) % 97 == 0
    for index in (7, -1, np.int32(3), slice(2, 9, 3), [5, 1], np.array([[0, 299], [4, 4]]), mask, np.zeros(0, int)):
        np.testing.assert_array_equal(streamed[index], held[index])
        assert streamed[index].dtype == np.uint8
    np.testing.assert_array_equal(streamed.subset(mask)[1:], held[mask][1:])
    with pytest.raises(IndexError):
        streamed[300]


def test_evaluations_take_streamed_data(cifar):
    streamed, held = load(cifar, "val"), load(cifar, "val", stream=False)
    chex.assert_trees_all_equal(fixed_sets(streamed, 3, 9, 0, "none"), fixed_sets(held, 3, 9, 0, "none"))
    assert independent_pixel_nll(streamed, held.images) == pytest.approx(independent_pixel_nll(held, held.images))
    assert streamed.info["sha256"] != load(cifar, "test").info["sha256"]
    cifar.update(heldout=2, set_size=3)
    for split in ("train", "heldout"):
        np.testing.assert_array_equal(load(cifar, split).images[:], load(cifar, split, stream=False).images)


def test_streamed_binarisation_follows_the_image(cifar):
    dataset = load(cifar, "val")
    small, large = (fixed_sets(dataset, size, 0, 4, "dynamic") for size in (2, 5))
    assert set(np.unique(large.images)) == {0, 1}
    known = {key: image for key, image in zip(_places(large), large.images.reshape(-1, 32, 32, 3), strict=True)}
    for key, image in zip(_places(small), small.images.reshape(-1, 32, 32, 3), strict=True):
        np.testing.assert_array_equal(image, known[key])
    grey = dataset.images[:].astype(np.float64).mean() / 255
    assert large.images.mean() == pytest.approx(grey, abs=0.005)
    assert (fixed_sets(dataset, 5, 0, 5, "dynamic").images != large.images).any()


def _places(batch):
    return [(label, member) for label, row in zip(batch.label, batch.member, strict=True) for member in row]


def test_what_is_drawn_in_memory_is_not_streamed(config):
    config.update(source="strokes", split="back_eval", stream=True)
    with pytest.raises(DataError, match="data.stream=True.*'strokes'.*data.stream=False"):
        load_dataset(config, "train")
