"""Writes docs/keys.md, the page of all keys of a config: ``python -m scripts.keys``."""

from collections.abc import Iterable

from hfsgm_jax.config import KEYS, SECTIONS, model_keys
from hfsgm_jax.evaluation.tables import Table, markdown
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


def _table(title: str, rows: Iterable[tuple[str, Key]], level: str = "##") -> str:
    cells = []
    for name, key in rows:
        choices = key.kind.choices
        values = ", ".join(f"`{choice}`" for choice in choices()) if choices else key.kind.form
        cells.append([f"`{name}`", f"`{key.default!r}`", values, key.help])
    return f"{level} {title}\n\n{markdown(Table(['key', 'default', 'values', 'meaning'], cells))}\n"


if __name__ == "__main__":
    readme.write("keys", page())
