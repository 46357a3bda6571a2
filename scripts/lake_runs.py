"""Writes hfsgm_jax/data/lake_runs.json: Lake's within-alphabet one-shot runs as labels and members of tfds's Omniglot.

python -m scripts.lake_runs omniglot_one_shot_runs.npz [--data_dir=DIR]

The file has ``train_images`` and ``test_images`` (bool [run, item, 105, 105], False is ink) and the ids of their
characters from 1 (``train_character_ids`` ...).
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np

from hfsgm_jax import data, default_config
from hfsgm_jax.data.fixed_sets import LAKE_RUNS
from hfsgm_jax.data.tfds_sources import OMNIGLOT

OUT = Path(data.__file__).with_name(LAKE_RUNS)


def find(runs: dict[str, np.ndarray], data_dir: str | None) -> dict[str, list]:
    """The content of the JSON file."""
    config = default_config().data
    config.update(source="omniglot", split="official", image_size=105, data_dir=data_dir)
    dataset = OMNIGLOT.read(config)
    drawings = dataset.images.to_memory().reshape(-1, 20, 105, 105) > 0  # [label, member, ...]
    found = {"images_per_class": 20}
    for side, name in zip(("support", "query"), ("train", "test"), strict=True):
        labels = runs[f"{name}_character_ids"] - 1
        found[f"{side}_label"] = labels.tolist()
        found[f"{side}_member"] = [
            [_member(drawings[label], ~image) for label, image in zip(*run, strict=True)]
            for run in zip(labels, runs[f"{name}_images"], strict=True)
        ]
    return found


def _member(drawings: np.ndarray, image: np.ndarray) -> int:
    """The index of ``image`` among the drawings of its character."""
    (members,) = np.nonzero((drawings == image).all((1, 2)))
    if len(members) != 1:
        raise SystemExit(f"An image of the runs occurs {len(members)} times among the drawings of its character.")
    return int(members[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("npz", help="the runs, see above")
    parser.add_argument("--data_dir", help="tfds data directory (default: TFDS_DATA_DIR or tfds's own)")
    args = parser.parse_args()
    with np.load(args.npz) as file:
        found = find({name: file[name] for name in file.files}, args.data_dir)
    OUT.write_text(_compact(json.dumps(found, indent=1)) + "\n")
    print(f"wrote {OUT}")


def _compact(text: str) -> str:
    """Rows of numbers on one line each."""
    return re.sub(r"\[\s*((?:\d+,\s*)*\d+)\s*\]", lambda m: "[" + " ".join(m[1].split()) + "]", text)


if __name__ == "__main__":
    main()
