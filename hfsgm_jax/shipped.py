"""The trained models that come with the library: a folder of weights each, with a card that says all about it."""

from pathlib import Path

PRETRAINED = Path(__file__).parent / "pretrained"


def pretrained() -> list[str]:
    """Their names, for `hfsgm_jax.load`; the folder of each holds ``card.md``."""
    return sorted(path.parent.name for path in PRETRAINED.glob("*/weights.msgpack"))
