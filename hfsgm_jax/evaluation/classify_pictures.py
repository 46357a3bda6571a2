"""Pictures of few-shot classification: confusion matrices, accuracy by group, mistakes, one episode."""

from pathlib import Path

import numpy as np
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from PIL import Image

from hfsgm_jax.evaluation import pictures, plots
from hfsgm_jax.evaluation.episodes import Episodes

LARGEST_MATRIX = 30  # classes
MISTAKES = 8  # rows
SHOWN = 3  # support images of a class beside a mistake
EXAMPLES = 4  # images that stand for a group
WHITE, GREEN, RED = (1.0, 1.0, 1.0), (0.15, 0.6, 0.3), (0.85, 0.25, 0.2)
FRAME = 2  # pixels
_GROUPS = {"omniglot": "alphabet"}
Answers = dict[str, np.ndarray]  # classifier -> [E, Q] predicted ways


def draw(episodes: Episodes, scores: dict[str, np.ndarray], predicted: Answers, folder: Path) -> list[Path]:
    """Writes the pictures of one setting; returns where they are.

    Few classes: a confusion matrix per classifier. Many: accuracy by group (alphabet, run), which says where a
    model is at a loss, since two classes hardly meet twice. Always: the mistakes each classifier was surest of,
    beside what it took them for, and the first episode.

    Args:
      scores: classifier -> ``[E, Q, Y]``.
    """
    base = f"classify_{episodes.name}"
    out = []
    if episodes.place is not None and episodes.dataset.num_classes <= LARGEST_MATRIX:
        out.append(plots.save(_matrices(episodes, predicted), folder / f"{base}_confusion.png"))
    else:
        groups = _groups(episodes)
        if len(np.unique(groups)) > 1:
            out.append(plots.save(_by_group(episodes, predicted, groups), folder / f"{base}_groups.png"))
    mistakes = _mistakes(episodes, scores, predicted)
    if mistakes is not None:
        out.append(pictures.save(mistakes, folder / f"{base}_mistakes.png"))
    out.append(pictures.save(_episode(episodes, predicted), folder / f"{base}_episode.png"))
    return out


def confusion(episodes: Episodes, predicted: np.ndarray) -> np.ndarray:
    """``[classes, classes]``: of the queries of a row's class, the share that was taken for each column's."""
    truth = np.take_along_axis(episodes.place, episodes.answer, 1).ravel()
    named = np.take_along_axis(episodes.place, predicted, 1).ravel()
    counts = np.zeros((episodes.dataset.num_classes,) * 2)
    np.add.at(counts, (truth, named), 1)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def _matrices(episodes: Episodes, predicted: Answers):
    labels = episodes.dataset.info.get("class_names") or episodes.dataset.label.tolist()
    page, axes = plots.figure(len(predicted), width=3.4, height=3.9)
    for axis, (name, values) in zip(axes, predicted.items()):
        shares = confusion(episodes, values)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axis.grid(False)
        axis.set_title(f"{name}: {(values == episodes.answer).mean():.1%} right", fontsize=10)
        axis.set_xticks(range(len(labels)), labels, fontsize=8, rotation=90 if len(str(labels[0])) > 2 else 0)
        axis.set_yticks(range(len(labels)), labels, fontsize=8)
        axis.set_xlabel("taken for")
        if len(labels) <= 12:
            for (row, column), share in np.ndenumerate(shares):
                if share >= 0.005:
                    color = "white" if share > 0.5 else "black"
                    axis.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=color)
    axes[0].set_ylabel("class of the query (%)")
    return page


def _groups(episodes: Episodes) -> np.ndarray:
    """``[E, Q]``: the group of each query's class, or its run."""
    if episodes.place is None:
        return np.broadcast_to(np.arange(len(episodes.answer))[:, None], episodes.answer.shape)
    return episodes.dataset.group[np.take_along_axis(episodes.place, episodes.answer, 1)]


def _by_group(episodes: Episodes, predicted: Answers, groups: np.ndarray):
    found = np.unique(groups)
    right = {name: values == episodes.answer for name, values in predicted.items()}
    mean = np.mean([[hits[groups == group].mean() for group in found] for hits in right.values()], 0)
    found = found[np.argsort(mean, kind="stable")]  # the easiest at the top
    page, (axis,) = plots.figure(width=7.0, height=1.0 + 0.36 * len(found))
    for shift, (name, hits) in zip(np.linspace(0.24, -0.24, len(right)), right.items()):
        shares = [hits[groups == group].mean() for group in found]
        axis.plot(shares, np.arange(len(found)) + shift, "o", markersize=5, label=f"{name} ({hits.mean():.1%})")
    axis.axvline(1 / episodes.ways, color="grey", linestyle="--", linewidth=1, label="chance")
    kind = "run" if episodes.place is None else _GROUPS.get(episodes.dataset.info["source"], "group")
    axis.set_yticks(range(len(found)), [f"{kind} {group} ({(groups == group).sum()})" for group in found], fontsize=8)
    axis.tick_params(axis="y", pad=72, length=0)
    for row, group in enumerate(found):
        strip = np.concatenate(list(_colour(episodes.query[groups == group][:EXAMPLES])), 1)
        box = OffsetImage(strip, zoom=0.6)
        place = dict(xybox=(-4, 0), boxcoords="offset points", box_alignment=(1, 0.5), frameon=False, pad=0)
        axis.add_artist(AnnotationBbox(box, (0, row), xycoords=axis.get_yaxis_transform(), **place))
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.6, len(found) - 0.4), xlabel="accuracy (in brackets: number of queries)")
    page.legend(loc="outside upper center", ncols=3, fontsize=8)
    return page


def _mistakes(episodes: Episodes, scores: dict[str, np.ndarray], predicted: Answers) -> Image.Image | None:
    """For each classifier: query, its own class (green), and the class it was most surely taken for (red)."""
    blocks, titles, masks = [], [], []
    shots = min(SHOWN, episodes.shots)
    for name, values in predicted.items():
        e, q = np.nonzero(values != episodes.answer)
        if not len(e):
            continue
        own, other = episodes.answer[e, q], values[e, q]
        worst = np.argsort(scores[name][e, q, own] - scores[name][e, q, other], kind="stable")[:MISTAKES]
        e, q, own, other = (index[worst] for index in (e, q, own, other))
        for title, images, colour in (
            (name, episodes.query[e, q][:, None], WHITE),
            ("is", episodes.support[e, own, :shots], GREEN),
            ("taken for", episodes.support[e, other, :shots], RED),
        ):
            rows = np.arange(MISTAKES) < len(e)
            empty = ((0, MISTAKES - len(e)),) + ((0, 0),) * 4
            blocks.append(np.pad(_framed(images, colour), empty, constant_values=1))
            titles.append(title)
            masks.append(np.repeat(rows[:, None], images.shape[1], 1))
    return pictures.grid(blocks, titles, masks) if blocks else None


def _episode(episodes: Episodes, predicted: Answers) -> Image.Image:
    """The first episode, a class per row: its support, its first query, and what each classifier took that for."""
    first = np.array([np.flatnonzero(episodes.answer[0] == way)[0] for way in range(episodes.ways)])
    blocks = [_framed(episodes.support[0]), _framed(episodes.query[0, first][:, None])]
    for values in predicted.values():
        named = values[0, first]
        colours = np.where((named == np.arange(episodes.ways))[:, None], GREEN, RED)
        blocks.append(_framed(episodes.support[0, named, :1], colours[:, None]))
    return pictures.grid(blocks, ["class", "query", *predicted])


def _colour(images: np.ndarray) -> np.ndarray:
    """``[..., H, W, 1 or 3]`` -> RGB in [0, 1]; one channel is ink."""
    images = np.clip(np.asarray(images, np.float32), 0, 1)
    return np.repeat(1 - images, 3, -1) if images.shape[-1] == 1 else images


def _framed(images: np.ndarray, colour: np.ndarray | tuple[float, float, float] = WHITE) -> np.ndarray:
    """RGB images with a frame; ``colour`` broadcasts with the leading axes of ``images``."""
    rgb = _colour(images)
    *lead, height, width, _ = rgb.shape
    out = np.empty((*lead, height + 2 * FRAME, width + 2 * FRAME, 3), np.float32)
    out[:] = np.asarray(colour, np.float32)[..., None, None, :]
    out[..., FRAME:-FRAME, FRAME:-FRAME, :] = rgb
    return out
