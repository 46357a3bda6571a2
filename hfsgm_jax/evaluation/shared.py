"""Latents that more than a class shares: of its alphabet, or of a style across classes (VHE 4.3, figures 7, 8)."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from hfsgm_jax import config as config_lib
from hfsgm_jax import objectives
from hfsgm_jax.evaluation import shared_pictures
from hfsgm_jax.evaluation.context import Evaluation, EvaluationError, NotApplicable, as_batch
from hfsgm_jax.evaluation.records import Record, bootstrap_error
from hfsgm_jax.trace import GROUP, IMAGE, SET, STYLE, Plan, Sets

OBJECTIVE = "vhe"  # the bound that is measured, whatever the model was trained by
WHAT = {GROUP: "group", SET: "class", STYLE: "style"}  # whose latent it is, in units


def check(evaluation: Evaluation) -> None:
    """Raises for models with the plate of the set alone, and where the data have no groups or styles."""
    plates = {node.plate for node in evaluation.shared_nodes}
    name, dataset = evaluation.config.model.name, None
    if not plates & {GROUP, STYLE}:
        raise NotApplicable(
            f"shared is about latents of groups of classes or of styles, and model.name={name!r} has none: "
            "hierarchical_vhe and factorial_vhe have"
        )
    evaluation.check_sets()
    dataset = evaluation.dataset
    if GROUP in plates and len(np.unique(dataset.group)) < 2:
        raise EvaluationError(
            f"shared needs classes of several groups, and those of {dataset.info['source']} ({dataset.info['split']}) "
            "are of one, or their groups are not known: use another eval.split or eval.source"
        )
    if STYLE in plates and np.sum(dataset.size >= evaluation.set_size + 2) < 2:
        raise EvaluationError(
            f"shared draws contents from {evaluation.set_size} images and tells them by at least two others, and fewer "
            "than two classes have as many; use a smaller --eval.set_size"
        )
    if STYLE in plates and dataset.style is None:
        raise EvaluationError(
            f"shared needs images in styles, and the model was trained with data.styles={evaluation.config.data.styles}"
        )


def shared(evaluation: Evaluation) -> Iterator[tuple[str, Record]]:
    """Yields the bound and KLs on unseen classes, then pictures (`shared_pictures`).

    * ``bound``: nats per image, of images drawn apart from every D (which may hold them): -log p(x) + KL_z + sum of
      KL_c / |X| over the
      plates, each with its own D drawn apart (eq. 15, 24). Condition ``evidence``: ``own``, or "other class",
      "other group", "other style": the D of that plate is another's, which costs as much as the model makes of it.
    * ``kl_a1``, ``kl_c1``, ``kl_s1``: KL of a shared latent, nats per group, class, style; ``parts``: per image.
    * ``kl_z``: nats per image.
    """
    batch, conditions = _drawn(evaluation)
    sets = _sets(batch)
    static = dict(num_targets=conditions["targets"])
    own = evaluation.each("shared: own evidence", shared_terms, sets, **static)
    yield "bound", _bound(evaluation, own, sets, conditions | {"evidence": "own"})
    for node in evaluation.shared_nodes:
        yield f"kl_{node.label}", _kl(own[node.label], sets.size_of(node.plate), node, conditions)
    value = own["kl_z"] / sets.target.sum(1)
    error = bootstrap_error(value, np.ones(len(value)))
    yield "kl_z", {"value": float(value.mean()), "unit": "nats/image", "standard_error": error, **conditions}
    for plate in dict.fromkeys(node.plate for node in evaluation.shared_nodes):
        other = _with_other_evidence(sets, plate, {SET: batch.label, GROUP: batch.group, STYLE: batch.style}[plate])
        if other is None:
            continue
        name = f"other {WHAT[plate]}"
        found = evaluation.each(f"shared: {name}", shared_terms, other, **static)
        yield "bound", _bound(evaluation, found, other, conditions | {"evidence": name})
    plates = {node.plate for node in evaluation.shared_nodes}
    if GROUP in plates:
        yield from shared_pictures.groups(evaluation)
    if STYLE in plates:
        yield from shared_pictures.styles(evaluation)


def shared_terms(apply: Any, encode: Any, row: Sets, key: jax.Array, *, num_targets: int) -> dict[str, jax.Array]:
    """Parts of the bound of one row, nothing weighted: ``log_px``, ``kl_z`` summed over its targets, KL per label.

    Args:
      apply, encode, row, key: see `Evaluation.each`; the context of every plate and the targets are slots of the row.
      num_targets: slots to decode.
    """
    sets = as_batch(row)
    trace = apply(sets, Plan(decode="target", num_decoded=num_targets), key)
    terms = objectives.terms(trace, sets)
    labels = [latent.label for latent in trace.latents if latent.plate != IMAGE]
    out = {name: value for name, value in terms.of_sets().items() if name in ("log_px", "kl_z")}
    return jax.tree.map(lambda x: x[0], out | dict(zip(labels, terms.kl_c, strict=True)))


def _drawn(evaluation: Evaluation) -> tuple[Any, dict[str, Any]]:
    """Sets of unseen classes as in training, nothing augmented, drawn by ``eval.seed``; and what they are."""
    from hfsgm_jax.data import SetSpec, drawn_sets

    dataset, options = evaluation.dataset, evaluation.options
    size = evaluation.set_size
    targets = 1 if dataset.style is not None else config_lib.num_targets(evaluation.config) or size
    plain = dict(flip=False, rotate=0.0, affine=0.0, dihedral=False, copies=1, replace=False)
    spec = SetSpec.from_config(evaluation.config.data, targets)
    spec = dataclasses.replace(spec, rows=options.max_sets or dataset.num_classes, low=size, high=size, **plain)
    conditions = evaluation.data_conditions(dataset) | {"set_size": size, "num_sets": spec.rows, "targets": targets}
    beside = {"group_size": spec.group_size, "style_size": spec.style_size}
    batch = drawn_sets(dataset, spec, options.seed)
    return batch, conditions | {key: value for key, value in beside.items() if value} | {"objective": OBJECTIVE}


def _sets(batch: Any) -> Sets:
    sets = jax.tree.map(np.asarray, Sets.of(batch.images, batch.mask, class_size=batch.class_size))
    return sets.replace(context=batch.context, target=batch.target, sizes=batch.sizes)


def _with_other_evidence(sets: Sets, plate: str, which: np.ndarray) -> Sets | None:
    """The sets with the context of ``plate`` taken from the next row of another one; None if there is none such.

    Args:
      which: ``[B]``, whose the row's context is.
    """
    rows = np.arange(len(which))
    later = (rows[:, None] + np.arange(1, len(rows))) % len(rows)
    differ = which[later] != which[:, None]
    mask = sets.context_of(plate)
    if not differ.any(1).all() or (mask != mask[:1]).any():
        return None
    partner = later[rows, differ.argmax(1)]
    return sets.replace(images=np.where(mask[..., None, None, None], sets.images[partner], sets.images))


def _bound(evaluation: Evaluation, found: dict[str, np.ndarray], sets: Sets, conditions: dict[str, Any]) -> Record:
    count = sets.target.sum(1)
    parts = {"log_px": found["log_px"] / count, "kl_z": found["kl_z"] / count}
    for node in evaluation.shared_nodes:
        parts[f"kl_{node.label}"] = found[node.label] / sets.size_of(node.plate)
    value = sum(parts.values()) - 2 * parts["log_px"]
    return {
        "value": float(value.mean()),
        "unit": "nats/image",
        "standard_error": bootstrap_error(value, np.ones(len(value))),
        "parts": {name: float(part.mean()) for name, part in parts.items()},
        **conditions,
    }


def _kl(kl: np.ndarray, size: np.ndarray, node: Any, conditions: dict[str, Any]) -> Record:
    return {
        "value": float(kl.mean()),
        "unit": f"nats/{WHAT[node.plate]}",
        "standard_error": bootstrap_error(kl, np.ones(len(kl))),
        "parts": {"per_image": float((kl / size).mean())},
        "plate": node.plate,
        **conditions,
    }
