"""Few-shot classification: episodes, records with their conditions, pictures, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hfsgm_jax.evaluation import Evaluation, EvaluationError, NotApplicable, classify, classify_pictures
from hfsgm_jax.evaluation.episodes import Episodes, draw_episodes
from hfsgm_jax.evaluation.run import evaluate
from hfsgm_jax.run_folder import open_run


class Data:
    """Classes of different sizes; the pixels of image i are i / 255."""

    def __init__(self, sizes, group=None):
        self.size = np.array(sizes)
        self.start = np.cumsum(self.size) - self.size
        self.num_classes = len(sizes)
        self.label = np.arange(len(sizes)) + 10
        self.group = np.zeros(len(sizes), int) if group is None else np.array(group)
        number = np.arange(self.size.sum(), dtype=np.uint8)[:, None, None, None]
        self.images = np.broadcast_to(number, (len(number), 4, 4, 1))
        self.info = {"source": "npz", "split": "test"}
        self.style = None


def members(images):
    """Which image of `Data` each one is."""
    return np.rint(images[..., 0, 0, 0] * 255).astype(int)


def test_episodes_hold_each_image_once_and_know_the_answers():
    data = Data([8, 3, 9, 7, 8])
    episodes = draw_episodes(data, 3, 4, 2, 6, seed=0, binarize="none")
    assert episodes.support.shape == (6, 3, 4, 4, 4, 1) and episodes.query.shape == (6, 6, 4, 4, 1)
    class_of = np.repeat(np.arange(5), data.size)
    support, query = members(episodes.support), members(episodes.query)
    for e in range(6):
        assert len(set(episodes.place[e])) == 3 and 1 not in episodes.place[e]  # it is too small
        assert len({*support[e].ravel(), *query[e]}) == 3 * 4 + 6
        np.testing.assert_array_equal(class_of[support[e]], np.repeat(episodes.place[e][:, None], 4, 1))
        np.testing.assert_array_equal(class_of[query[e]], episodes.place[e][episodes.answer[e]])
    assert episodes.conditions == {"queries": 2, "classes_large_enough": 4}
    assert len(np.unique(episodes.place, axis=0)) > 1


def test_episodes_are_a_function_of_the_seed_and_grow():
    data = Data([9] * 6)
    draw = lambda ways, shots, num, seed=0: draw_episodes(data, ways, shots, 1, num, seed, "none")  # noqa: E731
    one, five = draw(4, 1, 3), draw(4, 5, 8)
    np.testing.assert_array_equal(one.query, five.query[:3])
    np.testing.assert_array_equal(one.support, five.support[:3, :, :1])
    assert (draw(4, 1, 3, seed=1).query != one.query).any()
    every = draw(20, 1, 2)
    assert every.ways == 6 and every.conditions["ways_asked"] == 20 and every.name == "npz_test_6way_1shot"
    with pytest.raises(EvaluationError, match=r"8 shots and 2 queries need classes of 10 images.*0 of 6.*\[9, 9\]"):
        draw_episodes(data, 4, 8, 2, 1, 0)


def test_accuracy_has_its_error_over_episodes():
    right = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 0, 0]], bool)
    record = classify.accuracy(right, 0.5)
    each = np.array([1, 1, 2, 1]) / 3
    error = each.std(ddof=1) / 2
    assert abs(record["value"] - 5 / 12) < 1e-9 and record["unit"] == "fraction"
    np.testing.assert_allclose(record["standard_error"], error)
    np.testing.assert_allclose(record["parts"]["high_95"], 5 / 12 + 3.182446 * error, rtol=1e-5)  # t, 3 d.f.
    single = classify.accuracy(right[:1], 0.5)
    assert single["standard_error"] is None and single["parts"] == {"chance": 0.5}


def test_confusion_counts_classes_over_episodes(tmp_path):
    data = Data([9] * 3)
    episodes = draw_episodes(data, 2, 1, 2, 40, seed=0, binarize="none")
    always_first = np.zeros_like(episodes.answer)
    shares = classify_pictures.confusion(episodes, episodes.answer)
    np.testing.assert_array_equal(shares, np.eye(3))
    shares = classify_pictures.confusion(episodes, always_first)
    np.testing.assert_allclose(shares.sum(1), 1)
    truth, first = np.take_along_axis(episodes.place, episodes.answer, 1), episodes.place[:, :1]
    of_class_0 = truth == 0
    np.testing.assert_allclose(shares[0, 2], ((first == 2) & of_class_0).sum() / of_class_0.sum())
    assert 0 < shares[0, 2] < 1
    scores = {"log_mean": np.eye(2)[always_first]}
    paths = classify_pictures.draw(episodes, scores, {"log_mean": always_first}, tmp_path)
    kinds = [path.stem.removeprefix("classify_npz_test_2way_1shot_") for path in paths]
    assert kinds == ["confusion", "mistakes", "episode"]


def test_many_classes_are_shown_by_group_and_runs_by_run(tmp_path):
    data = Data([3] * 40, group=np.arange(40) // 10)
    episodes = draw_episodes(data, 5, 1, 1, 6, seed=0, binarize="none")
    right = {"kl": episodes.answer}
    paths = classify_pictures.draw(episodes, {"kl": np.eye(5)[episodes.answer]}, right, tmp_path)
    assert [path.stem.split("_")[-1] for path in paths] == ["groups", "episode"]  # and no mistakes to show
    runs = Episodes(data, episodes.support, episodes.query, episodes.answer, "within alphabet")
    paths = classify_pictures.draw(runs, {"kl": np.eye(5)[runs.answer]}, right, tmp_path)
    assert [path.stem for path in paths][0] == "classify_npz_test_5way_1shot_within_alphabet_groups"


# --- on a trained run -----------------------------------------------------------------------------


def evaluation_of(folder, **options):
    defaults = dict(episodes=2, ways=3, shots=(1, 2), queries=1, class_samples_c=2, class_samples_z=2, transfer=())
    run = open_run(folder, overrides={f"eval.{key}": value for key, value in (defaults | options).items()})
    return Evaluation(Path(folder), run.config, run.model, run.variables, run.step)


def test_every_classifier_is_recorded_with_its_conditions(run_folder, capsys):
    assert evaluate(evaluation_of(run_folder, shots=(2,)), ["classify"]).status == 0
    records = json.loads((run_folder / "eval" / "classify.json").read_text())
    by_method = {record["method"]: record for record in records}
    assert list(by_method) == ["elbo_difference", "mean_log", "log_mean", "kl"] and len(records) == 4
    common = dict(name="accuracy", source="strokes", split="test", ways=3, shots=2, queries=1, episodes=2, step=2)
    for record in records:
        assert (common | {"classes": "whole test set"}).items() <= record.items()
        assert 0 <= record["value"] <= 1 and record["parts"]["chance"] == 1 / 3
        assert record["pictures"][-1] == "eval/classify_strokes_test_3way_2shot_episode.png"
        for picture in record["pictures"]:
            Image.open(run_folder / picture).verify()
    assert by_method["kl"]["kl_layers"] == "c1" and "class_samples_c" not in by_method["kl"]
    assert by_method["elbo_difference"]["class_samples_c"] == 2
    assert by_method["log_mean"]["class_samples_z"] == 2
    assert "log_mean" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(shots=(1, 20)), "20 shots and 1 queries need classes of 21 images.*two largest have .20, 20. images"),
        (dict(kl_layers="c2"), "eval.kl_layers is one of c1, all, not 'c2'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(run_folder, options, message):
    outcome = evaluate(evaluation_of(run_folder, **options), ["classify"])
    assert outcome.status == 2
    with pytest.raises(EvaluationError, match=message):
        classify.check(evaluation_of(run_folder, **options))


def test_a_missing_source_is_said_and_a_vae_is_refused(run_folder, tiny_vae, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HFSGM_CACHE", str(tmp_path))
    evaluation = evaluation_of(run_folder, transfer=("mnist",))
    evaluation.config.data.data_dir = str(tmp_path)
    classify.check(evaluation)
    assert "classify goes without MNIST: " in capsys.readouterr().err
    config, model, variables = tiny_vae
    with pytest.raises(NotApplicable, match="few-shot classification .*'vae' has none"):
        classify.check(Evaluation(tmp_path, config, model, variables, 1))
