"""Recognising samples: a perfect sampler scores 1, a blind one chance, and the context is not its own judge."""

from types import SimpleNamespace

import numpy as np

from hfsgm_jax.evaluation.recognise import class_means, recognised

CLASSES, SIZE, CONTEXT = 6, 5, 2


def _data():
    rng = np.random.default_rng(0)
    prototypes = rng.integers(0, 2, (CLASSES, 1, 4, 4, 1)) * 255
    images = np.repeat(prototypes, SIZE, 1).astype(np.uint8)
    dataset = SimpleNamespace(
        images=images.reshape(-1, 4, 4, 1),
        start=np.arange(CLASSES) * SIZE,
        size=np.full(CLASSES, SIZE),
        label=np.arange(CLASSES) * 10,
    )
    order = rng.permutation(CLASSES)
    batch = SimpleNamespace(
        images=images[order, :CONTEXT] / 255,
        mask=np.ones((CLASSES, CONTEXT), bool),
        label=dataset.label[order],
        member=np.tile(np.arange(CONTEXT), (CLASSES, 1)),
    )
    return dataset, batch


def test_samples_of_the_right_class_are_recognised():
    dataset, batch = _data()
    record = recognised(dataset, batch, batch.images.repeat(4, 1))
    assert (record["value"], record["ways"], record["samples_per_class"]) == (1.0, CLASSES, 4 * CONTEXT)
    assert record["parts"] == {"real_images": 1.0, "chance": 1 / CLASSES}
    wrong = recognised(dataset, batch, np.roll(batch.images, 1, 0))
    assert wrong["value"] == 0.0


def test_means_leave_out_the_context():
    dataset, batch = _data()
    dataset.images[dataset.start] = 255 - dataset.images[dataset.start]  # the first image, in every context
    classes = np.searchsorted(dataset.label, batch.label)
    np.testing.assert_allclose(class_means(dataset, classes, batch.member), batch.images[:, 1])


def test_nothing_to_compare_with_gives_no_record():
    dataset, batch = _data()
    dataset.size[:] = CONTEXT
    assert recognised(dataset, batch, batch.images) is None
