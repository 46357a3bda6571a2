"""Run folders made by hand, and a reader of the pages made of them."""

import html.parser
import json
from pathlib import Path

import numpy as np
from PIL import Image
from tiny_model import tiny_config

DATA = dict(source="omniglot", split="test", scheme="back_eval", resize="gmn", image_size=28, sha256="a" * 64)
DATA |= dict(binarize="dynamic", set_size=5, num_sets=640, available_sets=2636, seed=0, step=40, dtype="float32")
NELBO = dict(name="nelbo", value=81.25, unit="nats/image", standard_error=0.5, estimator="elbo", importance_samples=1)
NLL = dict(name="nll", value=75.125, unit="nats/image", standard_error=0.25, estimator="joint")


def run_config(model: dict | None = None, **data) -> dict:
    """The config of a SCHA-VAE (LAG) or another model, trained on Omniglot, as it is stored.

    By default with a keyword that the model does not have: nothing is built, which takes seconds.
    """
    config = tiny_config().to_dict() | {"image_shape": [28, 28, 1]}
    config["data"] |= dict(source="omniglot", split="back_eval", resize="gmn", set_size=5) | data
    return config | {"model": model or {"name": "scha_vae", "aggregate": "lag", "unknown": 1}}


def write_run(folder: Path, results: dict[str, list], config: dict | None = None) -> Path:
    """A run's folder with metrics, these results by task, and every picture that they name."""
    (folder / "eval").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config or run_config()))
    lines = []
    for i in range(1, 41):
        lines.append({"step": i, "images": 20 * i, "seconds": 3.0 * i, "learning_rate": 1e-3 / i, "skipped": 0})
        lines[-1] |= {"train/nelbo": 90 + 400 / i**2, "train/kl_z": 20.0, "train/kl_c": 4.0}
        lines[-1] |= dict.fromkeys(("val/nelbo", "val/objective"), 95 + 40 / i) if i % 10 == 0 else {}
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 41, "ima')
    for task, found in results.items():
        (folder / "eval" / f"{task}.json").write_text(json.dumps(found))
        for path in (path for record in found for path in record.get("pictures", ())):
            Image.fromarray(np.eye(60, dtype=np.uint8)).save(folder / path)
    return folder


def likelihood(**other) -> list[dict]:
    """NELBO, and NLL of 10 and of 1000 samples."""
    return [{**NELBO, **DATA, "parts": {"log_px": -50.5, "kl_z": 27.5, "kl_c": 3.25}, **other}] + [
        {**NLL, **DATA, "value": value, "importance_samples": k, **other} for k, value in ((10, 77.5), (1000, 75.125))
    ]


class Page(html.parser.HTMLParser):
    """An HTML page's text and pictures; its tags are balanced, and it fetches and runs nothing."""

    VOID = ("meta", "img")

    def __init__(self, path: Path):
        super().__init__()
        self.open, self.texts, self.images, self.source = [], [], [], path.read_text()
        self.feed(self.source)
        assert not self.open, f"never closed: {self.open}"
        assert "http" not in self.source and "url(" not in self.source and "@import" not in self.source
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attributes):
        assert tag not in ("script", "link", "iframe", "object", "a")
        self.open += [] if tag in self.VOID else [tag]
        if tag == "img":
            attributes = dict(attributes)
            assert attributes["src"].startswith("data:image/") and attributes["alt"]
            self.images.append(attributes["src"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts += [data] if self.open[-1:] != ["style"] else []
