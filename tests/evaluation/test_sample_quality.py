"""Numbers of samples: what they say of real images, copies, one image over and over, other classes, noise."""

import numpy as np
import pytest

from hfsgm_jax.data import strokes
from hfsgm_jax.evaluation import plots
from hfsgm_jax.evaluation.sample_quality import Judge, plot

CLASSES, CONTEXT, OTHERS, WAYS = 12, 4, 8, 5


@pytest.fixture(scope="module")
def images():
    """``[CLASSES, 16, 28, 28, 1]``: contexts, others, and four that the judge does not see."""
    drawn = strokes.draw(num_classes=CLASSES, num_images=CONTEXT + OTHERS + 4, image_size=28, seed=5)
    return (drawn / 255 > 0.5).astype(np.float32)


@pytest.fixture(scope="module")
def judge(images):
    known = images[:, : CONTEXT + OTHERS]
    return Judge(known, np.ones(known.shape[:2], bool), CONTEXT, WAYS)


def values(judge, draws):
    return {name: record["value"] for name, record in judge.records(draws, {"kind": "conditional"})}


def test_real_images_are_the_measure(judge, images):
    records = dict(judge.records(images[:, CONTEXT + OTHERS :], {"kind": "real", "temperature": 1.0}))
    assert list(records) == ["recognised", "diversity", "copying"]
    named, diversity, copying = records.values()
    assert named["value"] > 0.9 and named["parts"]["chance"] == 1 / WAYS and named["parts"]["real_images"] > 0.9
    assert abs(diversity["value"] - 1) < 0.1 and abs(copying["value"] - 1) < 0.1
    assert copying["parts"]["close"] < 0.15
    for record in records.values():
        conditions = dict(kind="real", temperature=1.0, samples_per_class=4, classes=CLASSES)
        assert conditions.items() <= record.items() and 0 <= record["standard_error"] < 0.1


def test_copies_are_found_out(judge, images):
    records = dict(judge.records(images[:, :CONTEXT], {"kind": "copies"}))
    assert records["copying"]["value"] < 1e-6 and records["copying"]["parts"]["close"] == 1
    flips = np.random.default_rng(0).random((CLASSES, CONTEXT, 28, 28, 1)) < 0.02
    noisy = dict(judge.records(np.abs(images[:, :CONTEXT] - flips), {"kind": "noisy copies"}))["copying"]
    assert noisy["value"] < 0.75 and noisy["parts"]["close"] > 0.4


def test_one_image_over_and_over_is_not_diverse(judge, images):
    again = values(judge, images[:, -1:].repeat(4, 1))
    assert again["diversity"] < 1e-6 and again["recognised"] > 0.85


def test_other_classes_are_not_recognised(judge, images):
    wrong = values(judge, np.roll(images[:, -4:], 1, 0))
    assert wrong["recognised"] < 0.15 and wrong["copying"] > 1.5 and abs(wrong["diversity"] - 1) < 0.1
    right = judge.named_rightly(images[:3, -4:], range(3))
    assert right.shape == (3, 4) and right.mean() > 0.8
    assert judge.named_rightly(images[[1, 2, 0], -4:], range(3)).mean() < 0.2


def test_rows_without_other_images_are_left_out(images):
    mask = np.ones((CLASSES, CONTEXT + OTHERS), bool)
    mask[2, CONTEXT + 1 :] = False  # one image beside the context
    mask[5, 1:] = False  # a context of one image
    judge = Judge(images[:, : CONTEXT + OTHERS], mask, CONTEXT, ways=20)
    assert judge.rows.tolist() == [i for i in range(CLASSES) if i not in (2, 5)]
    named = dict(judge.records(images[:, -1:], {"kind": "real"}))
    assert list(named) == ["recognised", "copying"]  # one sample has no pairs
    assert named["recognised"]["ways"] == named["recognised"]["classes"] == CLASSES - 2
    mask[1:, CONTEXT + 1 :] = False
    with pytest.raises(ValueError, match="fewer than two classes"):
        Judge(images[:, : CONTEXT + OTHERS], mask, CONTEXT, ways=20)


def test_the_plot_has_a_point_per_kind(judge, images, tmp_path):
    kinds = "conditional", "one_pass"
    records = [pair for kind in kinds for pair in judge.records(images[:, -4:], {"kind": kind})]
    page = plot(records)
    legend = [text.get_text() for text in page.axes[0].get_legend().get_texts()]
    assert set(legend) == {"conditional", "one pass", "real images", "chance"}
    assert plots.save(page, tmp_path / "quality.png").stat().st_size > 1000
