"""What the tasks and their pictures show, in words. Any task and picture without an entry has a plain caption."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from hfsgm_jax.evaluation.page import paper
from hfsgm_jax.evaluation.page.tables import show

# Task -> title and what it shows.
ABOUT = {
    "likelihood": ("Likelihood", "How well the model describes sets of images: lower is better."),
    "cardinality": ("Set sizes", "NELBO over the number of images in a set, on classes of training and on new ones."),
    "transfer": ("Other data", "The same model, not adapted, on images of other data sets."),
    "kl_layers": ("What the layers say", "KL of every latent layer, top first, and how many of its units are active."),
    "context_bypass": ("Without layers of the context", "NELBO when layers of the set's latents c are taken away."),
    "attention": (
        "Attention",
        "Which images of a set its latents attend to: the entropy of the weights is 1 where all weigh the same.",
    ),
    "classify": ("Few-shot classification", "The model names the class of an image, given a few images of each class."),
    "sample": ("Samples", "New images of classes, given a few images of each, and from nothing."),
    "shared": (
        "Alphabets and styles",
        "Latents that more than a class shares: what they say, and what the model makes of those of others.",
    ),
}
# Task -> name of a record, or last word of a picture's file name -> what the picture shows.
CAPTIONS = {
    "likelihood": {"convergence": "NLL against the number of importance samples."},
    "cardinality": {"figure": "NELBO against the number of images in a set."},
    "transfer": {"figure": "NELBO on other data against the number of images in a set."},
    "kl_layers": {"figure": "KL of every layer, the share accumulated from the top, and active units."},
    "context_bypass": {"figure": "NELBO as layers of c are taken away: drawn from their prior, or skipped."},
    "attention": {"figure": "Weights of the images of a set, by layer of c."},
    "classify": {
        "confusion": "Which class is taken for which.",
        "groups": "Which group of classes is taken for which.",
        "mistakes": "Queries that were taken for another class.",
        "episode": "An episode: support images, queries, and what each classifier names them.",
    },
    "sample": {
        "context": "The contexts.",
        "reconstruction": "Images of sets, and the same images encoded and decoded.",
        "conditional": "Images of a class, and new images of that class.",
        "one_pass": "New images from the context's top latent alone, all else from the prior (the paper's eq. 6).",
        "refined": "New images, each refined by encoding it again together with its context.",
        "unconditional": "Imagined classes: nothing is given. A row shares its set latents.",
        "refinement": "Refinement, iteration by iteration.",
        "quality": "How often samples are named rightly, how diverse they are, how near to their context.",
        "recognised_samples": "Samples that a classifier names rightly (green) and wrongly (red).",
        "transfer": "The same model on classes of other data.",
        "all": "The kinds of samples side by side.",
    },
    "shared": {
        "alphabets": "New characters of an unseen alphabet: each with its own c given the alphabet's latent a.",
        "characters": "New images of unseen characters, a and c both from these images.",
        "style_transfer": "Unseen characters (left) redrawn in styles (top) that other images show.",
    },
}
# Conditions that others imply, or that a caption need not tell.
UNTOLD = (
    "sha256 scheme resize image_size num_sets binarize dtype estimator importance_samples kind method kl_layers "
    "class_samples_c class_samples_z"
).split()


def about(task: str) -> tuple[str, str]:
    """A task's title, and what it shows."""
    return ABOUT.get(task, (task.replace("_", " ").capitalize(), ""))


def sample_caption(kind: str) -> str:
    """What a picture of this kind of samples shows."""
    return CAPTIONS["sample"].get(kind, f"{kind.replace('_', ' ').capitalize()}.")


def caption(task: str, path: str, records: Sequence[Mapping[str, Any]], varying: Iterable[str]) -> str:
    """What a picture shows, with the conditions that tell it from the task's other pictures.

    Args:
      path: of the picture.
      records: those that name it.
      varying: conditions that differ between the task's pictures.
    """
    record, known = records[-1], CAPTIONS.get(task, {})
    name, word = str(record.get("name", "")), PurePath(path).stem.rpartition("_")[2]
    plain = f"{about(task)[0]}: {name.replace('_', ' ')}."
    text = record.get("caption") or known.get(word) or known.get(name) or plain
    told = [key for key in varying if key not in UNTOLD and all(r.get(key) == record.get(key) for r in records)]
    own = ", ".join(paper.describe(key, show(record[key])) for key in told if record.get(key) is not None)
    return f"{text} ({own})" if own else str(text)
