"""Writes hfsgm_jax/data/lake_runs.json: Lake's within-alphabet one-shot runs as places in tfds's Omniglot.

python -m scripts.lake_runs omniglot_one_shot_runs.npz [--data_dir=DIR]

The file has ``train_images`` and ``test_images`` (bool [run, item, 105, 105], False is ink), the ids of their
characters from 1 (``train_character_ids`` ...) and ``answer`` [run, item].
"""

import argparse
import json
import re
import tempfile
from pathlib import Path

import numpy as np

from configs import base
from hfsgm_jax.data import lake, load_dataset, tfds_sources

OUT = Path(lake.__file__).with_name(lake.FILE)


def find(runs: dict[str, np.ndarray], data_dir: str | None) -> dict[str, list]:
    """The content of the JSON file."""
    config = base.get_config().data
    config.update(source="omniglot", split="back_eval", data_dir=data_dir)
    raw = tfds_sources.OMNIGLOT.read(config)
    drawings = np.stack(list(raw.images))[..., 0] > 0
    found = {"images_per_class": 20, "answer": runs["answer"].tolist()}
    for side, name in zip(lake.SIDES, ("train", "test"), strict=True):
        labels = runs[f"{name}_character_ids"] - 1
        found[f"{side}_label"] = labels.tolist()
        found[f"{side}_member"] = [
            [_member(drawings[raw.labels == label], ~image) for label, image in zip(*run, strict=True)]
            for run in zip(labels, runs[f"{name}_images"], strict=True)
        ]
    found["sha256"] = {resize: _digests(config, resize, found) for resize in ("gmn", "box")}
    return found


def _member(drawings: np.ndarray, image: np.ndarray) -> int:
    """The place of ``image`` among the drawings of its character."""
    (places,) = np.nonzero((drawings == image).all((1, 2)))
    if len(places) != 1:
        raise SystemExit(f"An image of the runs occurs {len(places)} times among the drawings of its character.")
    return int(places[0])


def _digests(config, resize: str, found: dict[str, list]) -> dict[str, list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        config.update(resize=resize, cache_dir=folder)
        dataset = load_dataset(config, "test")
    index = {side: lake.places(dataset, found, side) for side in lake.SIDES}
    return lake.digests(dataset.images, index)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("npz", help="the runs, see above")
    parser.add_argument("--data_dir", help="tfds data directory (default: TFDS_DATA_DIR or tfds's own)")
    args = parser.parse_args()
    with np.load(args.npz) as file:
        found = find({name: file[name] for name in file.files}, args.data_dir)
    text = json.dumps(found, indent=1)
    OUT.write_text(_compact(text) + "\n")
    print(f"wrote {OUT}")


def _compact(text: str) -> str:
    """Rows of numbers on one line each."""
    return re.sub(r"\[\s*((?:[\d\"a-f]+,\s*)*[\d\"a-f]+)\s*\]", lambda m: "[" + " ".join(m[1].split()) + "]", text)


if __name__ == "__main__":
    main()
