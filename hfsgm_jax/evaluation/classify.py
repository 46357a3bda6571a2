"""Few-shot classification by likelihoods: accuracies of every classifier, and a picture of their mistakes."""

import functools
from typing import Any

import jax
import numpy as np
from PIL import Image
from scipy import stats

from hfsgm_jax import classification
from hfsgm_jax.evaluation import pictures
from hfsgm_jax.evaluation.base import Evaluation, Results
from hfsgm_jax.evaluation.episodes import Episodes, draw_episodes, within_alphabet
from hfsgm_jax.evaluation.records import Record, Records
from hfsgm_jax.trace import Sets

MNIST_WAYS, MNIST_SHOTS = 10, 5  # SCHA-VAE, Table 4
CONFIDENCE = 0.95
MISTAKES, SHOWN = 8, 3  # mistakes that are shown, and support images beside each


def classify(run: Evaluation) -> Records:
    """``accuracy`` of every classifier (condition ``method``, see `classification`) in every setting.

    Settings: episodes of ``eval.ways`` classes of ``eval.split``, for each of ``eval.shots``; where the data are
    Omniglot's, the same within alphabets (of one shot: Lake's runs); MNIST, 10-way 5-shot,
    where ``eval.transfer`` names it. The confidence interval is Student's, over episodes (of MNIST: of the same ten
    classes each). A published setting (all but the first) that cannot be had here is left out, and that is said.

    Raises:
      UserError: a model without set latents, classes too few or too small.
    """
    run.require_context("few-shot classification")
    classification.check_styles(run.model)
    options, dataset, binarize = run.options, run.load(), run.config.data.binarize
    common = dict(queries=options.queries, num=options.episodes, seed=options.seed, binarize=binarize)
    settings = [draw_episodes(dataset, options.ways, shots, **common) for shots in dict.fromkeys(options.shots)]
    source, published = dataset.info["source"], {}
    if source == "omniglot":
        lake = functools.partial(within_alphabet, dataset, options.seed, binarize)
        for shots in sorted({*options.shots}):
            within = functools.partial(draw_episodes, dataset, options.ways, shots, within=True, **common)
            published[f"{shots}-shot runs within alphabets"] = within if shots > 1 else lake
    if "mnist" in options.transfer and run.config.data.channels == 1 and source != "mnist":
        published["MNIST"] = lambda: draw_episodes(run.load("test", "mnist"), MNIST_WAYS, MNIST_SHOTS, **common)
    for episodes in (*settings, *run.at_hand("classify", published).values()):
        yield from _accuracies(run, episodes)


def _accuracies(run: Evaluation, episodes: Episodes) -> Records:
    file = f"eval/classify_{episodes.name}_mistakes.png"
    scores = functools.cache(lambda: _scores(run, episodes, file))

    def measure(name: str) -> dict[str, Any]:
        right = scores()[name].argmax(-1) == episodes.label
        return accuracy(right, 1 / episodes.conditions["ways"]) | {"pictures": [file]}

    conditions = run.data_conditions(episodes.dataset) | episodes.conditions
    for name in classification.CLASSIFIERS:
        own = {"method": name, **method_conditions(run, name)}
        yield Record("accuracy", own | conditions, functools.partial(measure, name))


def _scores(run: Evaluation, episodes: Episodes, file: str) -> Results:
    """The scores of every classifier, ``[E, Q, Y]``; draws their mistakes."""
    options = run.options
    at_once = max(1, options.sets_per_batch * run.train_set_size)
    static = dict(num_samples=options.class_samples_c, num_samples_z=options.class_samples_z, chunk=at_once)
    rows, images = {"support": episodes.support, "query": episodes.query}, min(at_once, episodes.label[0].size)
    scores = run.each(episodes.name, episode_scores, rows, images_per_row=images, **static)
    pictures.save(_mistakes(episodes, scores), run.workdir / file)
    return scores


def episode_scores(apply: Any, encode: Any, row: dict[str, jax.Array], key: jax.Array, **static: Any) -> dict:
    """`classification.scores` of one episode, see `Evaluation.each`: classifier -> ``[Q, Y]``."""
    return classification.scores(apply, encode, Sets.of(row["support"]), row["query"], key, **static)


def accuracy(right: np.ndarray, chance: float) -> dict[str, Any]:
    """Mean of ``right`` ``[E, Q]``, with its error over episodes (None for one)."""
    each, error, parts = right.mean(1), None, {"chance": chance}
    value = float(each.mean())
    if len(each) > 1:
        error = float(stats.sem(each))
        half = error * stats.t.ppf((1 + CONFIDENCE) / 2, len(each) - 1)
        parts |= {"low_95": max(0.0, value - half), "high_95": min(1.0, value + half)}
    clusters = [each.tolist(), [1.0] * len(each)]
    return {"value": value, "unit": "fraction", "standard_error": error, "clusters": clusters, "parts": parts}


def method_conditions(run: Evaluation, name: str) -> dict[str, Any]:
    """The options that this classifier's scores depend on."""
    if name in classification.BY_DIVERGENCE:
        return {}
    likelihood = {"class_samples_z": run.options.class_samples_z} if name in classification.BY_LIKELIHOOD else {}
    # Where the prior of c sees images, scores are no log-densities under the model.
    sees = {"prior_sees_images": True} if run.model.prior_sees_images else {}
    return {"class_samples_c": run.options.class_samples_c} | likelihood | sees


def _mistakes(episodes: Episodes, scores: Results) -> Image.Image:
    """For each classifier its surest mistakes: query, its own class, and the class it was taken for."""
    blocks, titles, support = [], [], episodes.support[:, :, :SHOWN]
    for name, score in scores.items():
        way = score.argmax(-1)
        wrong = np.argwhere(way != episodes.label)
        e, q = wrong.T
        sureness = score.max(-1)[e, q] - score[e, q, episodes.label[e, q]]
        e, q = wrong[np.argsort(-sureness, kind="stable")[:MISTAKES]].T
        empty = ((0, MISTAKES - len(e)),) + ((0, 0),) * 4
        for images in (episodes.query[e, q][:, None], support[e, episodes.label[e, q]], support[e, way[e, q]]):
            blocks.append(np.pad(images, empty, constant_values=np.nan))
        titles += [name, "is", "taken for"]
    return pictures.grid(blocks, titles)
