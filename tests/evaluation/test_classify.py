"""Few-shot classification: episodes, results with their conditions, pictures, and what is refused."""

import numpy as np
import pytest
from tiny_evaluation import changed, results_of

from hfsgm_jax import classification
from hfsgm_jax.data import Dataset
from hfsgm_jax.errors import DataError, NotApplicable
from hfsgm_jax.evaluation import classify, pictures
from hfsgm_jax.evaluation.episodes import draw_episodes


def data(sizes, groups=None):
    """Classes of different sizes; the pixels of image i are i / 255."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    images = np.broadcast_to(np.arange(len(labels), dtype=np.uint8)[:, None, None, None], (len(labels), 4, 4, 1))
    groups = None if groups is None else np.asarray(groups)[labels]
    return Dataset.from_arrays(images, labels, groups, info={"source": "npz", "split": "test"})


def members(images):
    """Index in `data` of each image."""
    return np.rint(images[..., 0, 0, 0] * 255).astype(int)


def test_episodes_hold_each_image_once_and_know_the_labels():
    dataset = data([8, 3, 9, 7, 8])
    episodes = draw_episodes(dataset, 3, 4, 2, 6, seed=0, binarize="none")
    assert episodes.support.shape == (6, 3, 4, 4, 4, 1) and episodes.query.shape == (6, 6, 4, 4, 1)
    class_of = np.repeat(np.arange(5), dataset.size)
    support, query = members(episodes.support), members(episodes.query)
    index = class_of[support[..., 0]]
    for e in range(6):
        assert len(set(index[e])) == 3 and 1 not in index[e]  # it is too small
        assert len({*support[e].ravel(), *query[e]}) == 3 * 4 + 6
        np.testing.assert_array_equal(class_of[support[e]], np.repeat(index[e][:, None], 4, 1))
        np.testing.assert_array_equal(class_of[query[e]], index[e][episodes.label[e]])
    conditions = dict(classes="whole test set", ways=3, shots=4, queries=2, classes_large_enough=4, episodes=6)
    assert episodes.conditions == conditions
    assert len(np.unique(index, axis=0)) > 1


def test_episodes_are_a_function_of_the_seed_and_grow():
    dataset = data([9] * 6)
    draw = lambda ways, shots, num, seed=0: draw_episodes(dataset, ways, shots, 1, num, seed, "none")
    one, five = draw(4, 1, 3), draw(4, 5, 8)
    np.testing.assert_array_equal(one.query, five.query[:3])
    np.testing.assert_array_equal(one.support, five.support[:3, :, :1])
    assert (draw(4, 1, 3, seed=1).query != one.query).any()
    every = draw(20, 1, 2)
    assert every.conditions["ways"] == 6 and every.conditions["ways_asked"] == 20
    assert every.name == "npz_test_6way_1shot"
    with pytest.raises(DataError, match=r"8 shots and 2 queries need classes of 10 images, and 0 of 6"):
        draw_episodes(dataset, 4, 8, 2, 1, 0, "none")


def test_episodes_within_a_group():
    dataset = data([9] * 7, groups=[0, 0, 0, 1, 1, 2, 2])
    episodes = draw_episodes(dataset, 2, 5, 1, 20, 0, "none", within=True)
    group_of = lambda episodes: np.repeat(dataset.group, dataset.size)[members(episodes.support[:, :, 0])]
    groups = group_of(episodes)
    assert (groups == groups[:, :1]).all() and set(groups[:, 0]) == {0, 1, 2}
    assert episodes.name == "npz_test_2way_5shot_within_alphabet"
    three = draw_episodes(dataset, 3, 5, 1, 4, 0, "none", within=True)
    assert set(group_of(three).ravel()) == {0}
    with pytest.raises(DataError, match="no group of npz has 4 classes of 6 images"):
        draw_episodes(dataset, 4, 5, 1, 4, 0, "none", within=True)


def test_accuracy_has_its_error_over_episodes():
    right = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 0, 0]], bool)
    measured = classify.accuracy(right, 0.5)
    error = (np.array([1, 1, 2, 1]) / 3).std(ddof=1) / 2
    assert abs(measured["value"] - 5 / 12) < 1e-9 and measured["unit"] == "fraction"
    np.testing.assert_allclose(measured["standard_error"], error)
    np.testing.assert_allclose(measured["parts"]["high_95"], 5 / 12 + 3.182446 * error, rtol=1e-5)  # t, 3 d.f.
    single = classify.accuracy(right[:1], 0.5)
    assert single["standard_error"] is None and single["parts"] == {"chance": 0.5}


def test_the_mistakes_of_all_classifiers_are_drawn():
    episodes = draw_episodes(data([9] * 3), 2, 1, 2, 6, seed=0, binarize="none")
    scores = {"log_mean": np.eye(2)[np.zeros_like(episodes.label)], "kl": np.eye(2)[episodes.label]}
    stripe = lambda images: np.ones_like(images) * (np.arange(images.shape[-3]) < images.shape[-3] // 3)[:, None, None]
    ink = episodes._replace(support=stripe(episodes.support), query=stripe(episodes.query))
    page = np.asarray(classify._mistakes(ink, scores))
    empty = lambda part: (part >= pictures.GUTTER).all()
    below = page[2 * pictures.HEADER :]
    assert not empty(below[:, : page.shape[1] // 2]) and empty(below[:, page.shape[1] // 2 :])  # kl makes none


OPTIONS = dict(episodes=2, ways=3, shots=(2,), queries=1, class_samples_c=2, class_samples_z=2, transfer=())


def test_every_classifier_is_recorded_with_its_conditions(tiny_run):
    results = results_of(changed(tiny_run, **OPTIONS), classify.classify)
    by_method = {result["method"]: result for result in results}
    assert tuple(by_method) == classification.CLASSIFIERS and len(results) == 5
    common = dict(name="accuracy", source="strokes", split="test", ways=3, shots=2, queries=1, episodes=2, step=2)
    for result in results:
        assert (common | {"classes": "whole test set"}).items() <= result.items()
        assert 0 <= result["value"] <= 1 and result["parts"]["chance"] == 1 / 3
        assert "eval/classify_strokes_test_3way_2shot_mistakes.png" in result["pictures"]
    assert "class_samples_c" not in by_method["kl"] and "class_samples_c" not in by_method["kl_all"]
    assert by_method["elbo_difference"]["class_samples_c"] == 2 == by_method["log_mean"]["class_samples_z"]


def test_classes_too_small_are_refused_and_a_missing_source_is_said(tiny_run, tmp_path, monkeypatch, capsys):
    with pytest.raises(DataError, match="20 shots and 1 queries need classes of 21 images"):
        next(classify.classify(changed(tiny_run, **OPTIONS | {"shots": (1, 20)})))
    monkeypatch.setenv("HFSGM_CACHE", str(tmp_path))
    next(classify.classify(changed(tiny_run, {"data.data_dir": str(tmp_path)}, **OPTIONS | {"transfer": ("mnist",)})))
    assert "classify goes without MNIST: " in capsys.readouterr().err


def test_a_vae_is_refused(vae_run):
    with pytest.raises(NotApplicable, match="few-shot classification .*'vae' has none"):
        next(classify.classify(vae_run))
