"""Writes docs/keys.md, the page of all keys of a config: ``python -m scripts.keys``."""

from collections.abc import Iterable

from hfsgm_jax.config import KEYS, SECTIONS, model_keys
from hfsgm_jax.keys import Key
from hfsgm_jax.models import MODELS
from scripts import readme


def page() -> str:
    """The page in Markdown: a table per section, and one per model."""
    parts = [_table("General", [("seed", KEYS["seed"])])]
    for section in (section for section in SECTIONS if section != "model"):
        own = [(name, key) for name, key in KEYS.items() if name.startswith(f"{section}.")]
        parts.append(_table(f"`{section}`", own))
    parts.append(
        "## `model`\n\n`model.name` is one of the models below; the other keys are its constructor's keywords.\n"
    )
    parts += [_table(f"`{name}`", model_keys(name).items(), "###") for name in MODELS]
    return "\n".join(parts)


def _table(title: str, keys: Iterable[tuple[str, Key]], level: str = "##") -> str:
    rows = []
    for name, key in keys:
        choices = key.kind.choices
        values = ", ".join(f"`{choice}`" for choice in choices()) if choices else key.kind.form
        rows.append({"key": f"`{name}`", "default": f"`{key.default!r}`", "values": values, "meaning": key.help})
    return f"{level} {title}\n\n{readme.table(rows)}\n"


if __name__ == "__main__":
    readme.write("keys", page())
