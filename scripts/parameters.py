"""Counts the parameters of every config and writes docs/parameters.json and the table in README.md.

python -m scripts.parameters
"""

import importlib
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections

from hfsgm_jax.models import build_model
from hfsgm_jax.trace import Plan, Sets
from scripts import readme

ROOT = Path(__file__).resolve().parent.parent
COUNTS = ROOT / "docs" / "parameters.json"
# Config -> parameters in millions, NELBO and NLL on back_eval as the paper prints them (SCHA-VAE: less the 7.3 M
# parameters that its code registers and never uses).
PAPER = {
    "omniglot_vae": ("13.3", "101.4", "88.4"),
    "omniglot_ns": ("14.7", "91.9", "85.6"),
    "omniglot_cns": ("16.9", "83.4", "77.5"),
    "omniglot_cns_lag": ("17.2", "83.8", "77.6"),
    "omniglot_scha_vae": ("4.76", "79.4", "72.7"),
    "omniglot_scha_vae_lag": ("5.65", "77.9", "71.5"),
}
NOT_EXPERIMENTS = ("base", "paper")  # what the experiments are made of


def experiments() -> list[str]:
    """Names of the experiments in ``configs/``."""
    return sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem not in NOT_EXPERIMENTS)


def load(name: str, *argument: str) -> ml_collections.ConfigDict:
    """The config ``configs/NAME.py:ARGUMENT``."""
    return importlib.import_module(f"configs.{name}").get_config(*argument)


def init_shapes(config: ml_collections.ConfigDict, num_slots: int = 2) -> dict:
    """Shapes of the model's variables, ``{"params": ..., maybe "batch_stats": ...}``; computes nothing."""
    shape = (config.data.image_size, config.data.image_size, config.data.channels)
    model = build_model(config.model, shape)

    def init(key):
        sets = Sets.of(jnp.zeros((1, num_slots, *shape)))
        return model.init({"params": key, "sample": key}, sets, Plan())

    return jax.eval_shape(init, jax.random.key(0))


def count(variables: dict) -> int:
    """Number of trainable parameters."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


def title(name: str) -> str:
    """The first line of a config's docstring."""
    return importlib.import_module(f"configs.{name}").__doc__.splitlines()[0].rstrip(".")


def table(counts: dict[str, int]) -> str:
    """All experiments as Markdown: parameters beside the paper's, and the paper's numbers."""
    lines = [
        "| `configs/` | what it is | parameters, M | paper's | paper's NELBO | NLL |",
        "|---|---|---|---|---|---|",
    ]
    for name, number in counts.items():
        published = " | ".join(PAPER.get(name, ("", "", "")))
        lines.append(f"| `{name}` | {title(name)} | {number / 1e6:.2f} | {published} |")
    return "\n".join(lines)


def main() -> None:
    counts = {name: count(init_shapes(load(name))) for name in experiments()}
    COUNTS.write_text(json.dumps(counts, indent=2) + "\n")
    readme.write("parameters", table(counts))
    print(table(counts))


if __name__ == "__main__":
    main()
