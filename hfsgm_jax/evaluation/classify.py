"""Few-shot classification by likelihoods: accuracies of every classifier, and pictures of who is taken for whom."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from scipy import stats

from hfsgm_jax import classification
from hfsgm_jax.evaluation import classify_pictures
from hfsgm_jax.evaluation.context import Evaluation, EvaluationError
from hfsgm_jax.evaluation.episodes import Episodes, draw_episodes, large_enough, within_alphabet
from hfsgm_jax.evaluation.records import Record
from hfsgm_jax.trace import Sets

MNIST_WAYS, MNIST_SHOTS = 10, 5  # SCHA-VAE, Table 4
CONFIDENCE = 0.95


def check(evaluation: Evaluation) -> None:
    """Raises for models without set latents, unknown layers, and classes too few or too small.

    What is published besides (runs within alphabets, MNIST) and cannot be had here is left out, and that is said.
    """
    options = evaluation.options
    evaluation.require_context("few-shot classification")
    if options.kl_layers not in classification.KL_LAYERS:
        raise EvaluationError(
            f"eval.kl_layers is one of {', '.join(classification.KL_LAYERS)}, not {options.kl_layers!r}"
        )
    for shots in options.shots:
        large_enough(evaluation.dataset, shots, options.queries)
    for name, reason in _published(evaluation)[1].items():
        print(f"evaluate: classify goes without {name}: {reason}", file=sys.stderr)


def episode_scores(apply: Any, encode: Any, row: dict[str, jax.Array], key: jax.Array, **static: Any) -> dict:
    """`classification.scores` of one episode, see `Evaluation.each`: classifier -> ``[Q, Y]``."""
    return classification.scores(apply, encode, Sets.of(row["support"]), row["query"], key, **static)


def classify(evaluation: Evaluation) -> Iterator[tuple[str, Record]]:
    """Yields ``accuracy`` of every classifier (``method``, see `classification`) in every setting.

    Settings: episodes of ``eval.ways`` classes of ``eval.split``, for each of ``eval.shots``; Lake's runs within
    alphabets, where the data are Omniglot's evaluation characters; MNIST, 10-way 5-shot, where ``eval.transfer``
    names it. The confidence interval is Student's, over episodes.
    """
    for episodes in _settings(evaluation):
        scores = _scores(evaluation, episodes)
        predicted = {name: scores[name].argmax(-1) for name in classification.CLASSIFIERS}
        paths = classify_pictures.draw(episodes, scores, predicted, evaluation.folder)
        pictures = [f"{evaluation.folder.name}/{path.name}" for path in paths]
        conditions = evaluation.data_conditions(episodes.dataset) | {
            "classes": episodes.classes,
            "ways": episodes.ways,
            "shots": episodes.shots,
            **episodes.conditions,
            "episodes": len(episodes.answer),
        }
        for name in predicted:
            measured = accuracy(predicted[name] == episodes.answer, 1 / episodes.ways)
            own = method_conditions(evaluation, name)
            yield "accuracy", {**measured, "method": name, **own, **conditions, "pictures": pictures}


def accuracy(right: np.ndarray, chance: float) -> Record:
    """Mean of ``right`` ``[E, Q]``, with its error over episodes (None for one)."""
    each = right.mean(1)
    value, parts = float(each.mean()), {"chance": chance}
    error = float(stats.sem(each)) if len(each) > 1 else None
    if error is not None:
        half = error * stats.t.ppf((1 + CONFIDENCE) / 2, len(each) - 1)
        parts |= {"low_95": max(0.0, value - half), "high_95": min(1.0, value + half)}
    return {"value": value, "unit": "fraction", "standard_error": error, "parts": parts}


def method_conditions(evaluation: Evaluation, name: str) -> Record:
    """The options that this classifier's scores depend on."""
    options = evaluation.options
    if name == "kl":
        return {"kl_layers": options.kl_layers}
    out = {"class_samples_c": options.class_samples_c}
    if name in classification.LIKELIHOODS:
        out["class_samples_z"] = options.class_samples_z
    if evaluation.model.prior_sees_images:
        out["prior_sees_images"] = True  # scores are no log-densities under the model
    return out


def _scores(evaluation: Evaluation, episodes: Episodes) -> dict[str, np.ndarray]:
    """classifier -> ``[E, Q, Y]``."""
    options = evaluation.options
    at_once = max(1, options.sets_per_batch * evaluation.train_set_size)
    static = dict(
        num_samples=options.class_samples_c,
        num_samples_z=options.class_samples_z,
        kl_layers=options.kl_layers,
        chunk=at_once,
    )
    rows = {"support": episodes.support, "query": episodes.query}
    images = min(at_once, episodes.ways * episodes.query.shape[1])
    return evaluation.each(episodes.name, episode_scores, rows, images_per_row=images, **static)


def _settings(evaluation: Evaluation) -> Iterator[Episodes]:
    for shots in dict.fromkeys(evaluation.options.shots):
        yield _draw(evaluation, evaluation.dataset, evaluation.options.ways, shots)
    for draw in _published(evaluation)[0]:
        yield draw()


def _draw(evaluation: Evaluation, dataset: Any, ways: int, shots: int) -> Episodes:
    options = evaluation.options
    binarize = evaluation.config.data.binarize
    return draw_episodes(dataset, ways, shots, options.queries, options.episodes, options.seed, binarize)


def _published(evaluation: Evaluation) -> tuple[list[Callable[[], Episodes]], dict[str, str]]:
    """What draws the published settings that this model and these data allow, and why others are missing."""
    from hfsgm_jax.data import DataError, run_places

    options, dataset, binarize = evaluation.options, evaluation.dataset, evaluation.config.data.binarize

    def alphabets():
        run_places(dataset)
        return lambda: within_alphabet(dataset, options.seed, binarize)

    def mnist():
        other = evaluation.load("test", "mnist")
        large_enough(other, MNIST_SHOTS, options.queries)
        return lambda: _draw(evaluation, other, MNIST_WAYS, MNIST_SHOTS)

    source = dataset.info["source"]
    within = source == "omniglot" and options.within_alphabet
    wanted = {"the runs within alphabets": alphabets} if within else {}
    if "mnist" in options.transfer and evaluation.config.data.channels == 1 and source != "mnist":
        wanted["MNIST"] = mnist
    found, missing = [], {}
    for name, make in wanted.items():
        try:
            found.append(make())
        except (DataError, EvaluationError) as error:
            missing[name] = str(error)
    return found, missing
