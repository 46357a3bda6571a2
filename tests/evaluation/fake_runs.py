"""Run folders made by hand, and a reader of the pages made of them."""

import html.parser
import json
from pathlib import Path

import ml_collections
import numpy as np
from PIL import Image
from tiny_model import tiny_config

from hfsgm_jax.config import dump_config

DATA = dict(
    source="omniglot",
    split="test",
    scheme="back_eval",
    resize="gmn",
    image_size=28,
    sha256="a" * 64,
    binarize="dynamic",
    set_size=5,
    num_sets=640,
    seed=0,
    step=40,
    dtype="float32",
)
NELBO = dict(name="nelbo", value=81.25, unit="nats/image", standard_error=0.5, estimator="elbo", importance_samples=1)
NLL = dict(name="nll", value=75.125, unit="nats/image", standard_error=0.25, estimator="joint")


def run_config() -> ml_collections.ConfigDict:
    """A SCHA-VAE (LAG) trained on Omniglot."""
    config = tiny_config()
    config.image_shape = (28, 28, 1)
    config.data.update(source="omniglot", split="back_eval", resize="gmn")
    config.data.set_size = 5
    return config


def write_run(folder: Path, records: dict[str, list], config: ml_collections.ConfigDict | None = None) -> Path:
    """A run's folder with metrics, these results, and every picture that they name."""
    dump_config(config or run_config(), folder)
    lines = []
    for i in range(1, 41):
        lines.append({"step": i, "images": 20 * i, "seconds": 3.0 * i, "learning_rate": 1e-3 / i, "skipped": 0})
        lines[-1] |= {"train/nelbo": 90 + 400 / i**2, "train/kl_z": 20.0, "train/kl_c": 4.0}
        lines[-1] |= {"val/nelbo": 95 + 40 / i} if i % 10 == 0 else {}
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 41, "ima')
    (folder / "eval").mkdir()
    for task, found in records.items():
        (folder / "eval" / f"{task}.json").write_text(json.dumps(found))
        for path in (path for record in found for path in record.get("pictures", ())):
            write_picture(folder / path)
    return folder


def write_picture(path: Path, size: tuple[int, int] = (700, 60)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0]), np.uint8)).save(path)


def likelihood(**other) -> list[dict]:
    """NELBO, and NLL of 10 and of 1000 samples."""
    return [{**NELBO, **DATA, "parts": {"log_px": -50.5, "kl_z": 27.5, "kl_c": 3.25}, **other}] + [
        {**NLL, **DATA, "value": value, "importance_samples": k, **other} for k, value in ((10, 77.5), (1000, 75.125))
    ]


class Page(html.parser.HTMLParser):
    """An HTML page: checks that its tags are balanced; collects its text, pictures and references."""

    VOID = ("meta", "img", "br", "hr", "link", "input")

    def __init__(self, path: Path):
        super().__init__()
        self.open, self.texts, self.images, self.references, self.tags = [], [], [], [], set()
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        attributes = dict(attributes)
        if tag == "img":
            self.images.append(attributes["src"])
            assert attributes["alt"], "a picture without a text for those who do not see it"
        found = {
            key: attributes[key]
            for key in ("href", "src", "srcset", "xlink:href", "action", "data")
            if key in attributes
        }
        self.references += found.values()
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def assert_self_contained(self) -> None:
        assert not {"script", "link", "iframe", "object"} & self.tags
        outside = [to for to in self.references if not to.startswith(("data:image/", "#"))]
        assert not outside
        assert "url(http" not in self.source and "@import" not in self.source
