"""Counts the parameters of every config, for docs/parameters.json and the table in docs/configs.md.

python -m scripts.parameters
"""

import functools
import importlib
import json

import ml_collections

from hfsgm_jax.data import image_shape
from hfsgm_jax.evaluation.page import paper
from hfsgm_jax.evaluation.report import num_parameters
from hfsgm_jax.evaluation.tables import Table, markdown
from hfsgm_jax.models import build_model
from scripts import readme
from scripts.machine import ROOT

COUNTS = ROOT / "docs" / "parameters.json"
# Config -> parameters in millions as the paper prints them, less the 7.3 M that its code registers and never uses.
PAPER = {
    "omniglot_vae": "13.3",
    "omniglot_ns": "14.7",
    "omniglot_cns": "16.9",
    "omniglot_cns_lag": "17.2",
    "omniglot_scha_vae": "4.76",
    "omniglot_scha_vae_lag": "5.65",
}
BOUNDS = dict(name="nelbo", importance_samples=1), dict(name="nll", estimator="joint", importance_samples=1000)


def experiments() -> list[str]:
    """Names of the experiments in ``configs/`` (``paper.py`` is what several share)."""
    return sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem != "paper")


def load(name: str, *argument: str) -> ml_collections.ConfigDict:
    """The config ``configs/NAME.py:ARGUMENT``."""
    return importlib.import_module(f"configs.{name}").get_config(*argument)


def count(config: ml_collections.ConfigDict) -> int:
    """Number of the model's trainable parameters."""
    return _count(config.model.to_json(sort_keys=True), image_shape(config.data))


@functools.cache  # several configs share a model
def _count(model: str, shape: tuple[int, int, int]) -> int:
    return num_parameters(build_model(json.loads(model), shape))


def bounds(name: str) -> list[str]:
    """The paper's NELBO and NLL of an experiment on sets of 5 (Table 1)."""
    if name not in PAPER:
        return ["", ""]
    config = load(name).to_dict()
    data = dict(source="omniglot", split="test", scheme="back_eval", resize="gmn", set_size=5)
    return [paper.published("likelihood", data | bound, config).text for bound in BOUNDS]


def table(counts: dict[str, int]) -> str:
    """All experiments as Markdown: parameters beside the paper's, and the paper's numbers."""
    title = lambda name: importlib.import_module(f"configs.{name}").__doc__.splitlines()[0].rstrip(".")
    columns = ["`configs/`", "what it is", "parameters, M", "paper's", "paper's NELBO", "NLL"]
    rows = [[f"`{k}`", title(k), f"{n / 1e6:.2f}", PAPER.get(k, ""), *bounds(k)] for k, n in counts.items()]
    return markdown(Table(columns, rows))


def main() -> None:
    counts = {name: count(load(name)) for name in experiments()}
    COUNTS.write_text(json.dumps(counts, indent=2) + "\n")
    readme.write("parameters", table(counts))
    print(table(counts))


if __name__ == "__main__":
    main()
