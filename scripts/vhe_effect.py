"""What the four objectives of the VHE papers do with the set latent of a model with an autoregressive decoder.

    python -m scripts.vhe_effect runs/vhe_effect [--seeds=3] [--steps=...] [--jobs=2]

Trains configs/cpu_vhe.py (images augmented as for Table 1 of the VHE paper) with every objective and seed, evaluates
each run on the test characters, and writes results/vhe_effect (results.json: every number with its provenance;
curves.png) and the table in README.md. What is finished is not done again; an interrupted run continues.
"""

import argparse
from pathlib import Path

from hfsgm_jax.config_problems import OBJECTIVES
from scripts import study

OUT = study.ROOT / "results" / "vhe_effect"
EVALUATIONS = (
    ("kl_layers", ["--eval.max_sets=320"]),
    (
        "classify",
        [
            "--eval.shots=(5,)",
            "--eval.episodes=10",
            "--eval.class_samples_c=5",
            "--eval.class_samples_z=2",
            "--eval.transfer=()",
            "--eval.within_alphabet=False",
        ],
    ),
    (
        "likelihood",  # whole classes of 20: 20 samples of c, 5 of every image's t
        [
            "--eval.set_size=20",
            "--eval.max_sets=50",
            "--eval.estimator=nested",
            "--eval.importance_samples=20",
            "--eval.importance_samples_z=5",
        ],
    ),
)
CLASSIFIERS = ("log_mean", "kl")
COLUMNS = {  # of the table: key, form, factor
    "KL of c, nats per set": ("kl_c", "{:.2f} ± {:.2f}", 1),
    "20-way 5-shot, log p(x given c), %": ("accuracy_log_mean", "{:.1f} ± {:.1f}", 100),
    "the same by KL of contexts, %": ("accuracy_kl", "{:.1f} ± {:.1f}", 100),
    "NLL of whole classes, nats per image": ("nll", "{:.2f} ± {:.2f}", 1),
    "images seen": ("images", "{:,.0f}", 1),
}
PANELS = {
    "train/kl_c": ("KL of c, nats per set", {"yscale": "log"}),
    "train/nelbo": ("training objective, nats per image", {"ylim": (None, 150)}),
}

SHARED_BY = {"ns": 5, "resample": 5, "rescale": 400, "vhe": 400}  # images: |D|, or 20 of a class in 20 warps each


def per_set(objective: str, key: str) -> float:
    """From the set's share of an image, which training logs, to the KL of a set."""
    return SHARED_BY[objective] if key == "train/kl_c" else 1.0


def numbers(folder: Path) -> study.Numbers:
    """The numbers of one run at its last step, as its records have them."""
    kl = [record["parts"]["per_set"] for record in study.records(folder, "kl_layers") if record["name"][0] == "c"]
    accuracy = {r["method"]: r["value"] for r in study.records(folder, "classify") if r["name"] == "accuracy"}
    nll = [record for record in study.records(folder, "likelihood") if record["name"] == "nll"]
    last = study.training(folder)
    return {
        "kl_c": sum(kl),
        **{f"accuracy_{name}": accuracy[name] for name in CLASSIFIERS},
        "nll": max(nll, key=lambda record: record["importance_samples"])["value"],
        "images": last["images"],
        "step": last["step"],
    }


def table(results: dict[str, list[study.Numbers]]) -> str:
    """Rows: objectives; mean and 95 % interval over seeds."""
    rows = []
    for objective, runs in results.items():
        cells = [
            form.format(*study.interval([factor * run[key] for run in runs])) for key, form, factor in COLUMNS.values()
        ]
        rows.append([f"`{objective}`", *cells])
    return study.markdown(["objective", *COLUMNS], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    seeds = range(arguments.seeds)
    variants = [
        study.Variant(f"{name}_{seed}", f"configs/cpu_vhe.py:{name},augmented", arguments.steps, (f"seed={seed}",))
        for seed in seeds
        for name in OBJECTIVES
    ]
    found = study.measure(arguments.folder, variants, EVALUATIONS, numbers, arguments.jobs)
    results = {name: [found[f"{name}_{seed}"] for seed in seeds] for name in OBJECTIVES}
    study.write(OUT, {"evaluations": EVALUATIONS, "runs": results}, table(results))
    folders = {name: [arguments.folder / f"{name}_{seed}" for seed in seeds] for name in OBJECTIVES}
    study.curves(folders, PANELS, OUT / "curves.png", per_set)


if __name__ == "__main__":
    main()
