"""What the four objectives of the VHE papers do with the set latent of a model with an autoregressive decoder.

    python -m scripts.vhe_effect runs/vhe_effect [--seeds=3] [--jobs=2] [--config.train.steps=1000]

Trains configs/cpu_vhe.py (images augmented as for Table 1 of the VHE paper) with every objective and seed, and
evaluates each run on the test characters. Flags and results: see `study`.
"""

from pathlib import Path

from hfsgm_jax.config import load_config
from hfsgm_jax.evaluation.page import paper
from scripts import study

SHARED_BY = {"ns": 5, "resample": 5, "rescale": 400, "vhe": 400}  # images: |D|, or 20 of a class in 20 warps each
COLUMNS = {  # of the table: key, form, factor
    "KL of c, nats per set": ("kl_c", "{:.2f} ± {:.2f}", 1),
    "20-way 5-shot, log p(x given c), %": ("accuracy_log_mean", "{:.1f} ± {:.1f}", 100),
    "the same by KL of contexts, %": ("accuracy_kl", "{:.1f} ± {:.1f}", 100),
    "NLL of whole classes, nats per image": ("nll", "{:.2f} ± {:.2f}", 1),
    "images seen": ("images", "{:,.0f}", 1),
}


def numbers(folder: Path) -> study.Numbers:
    """KL of c, accuracies and NLL of one run; ``paper``: what the VHE paper has beside them."""
    config, whole = load_config(folder).to_dict(), {"name": "accuracy", "classes": "whole test set"}
    accuracies = [r for r in study.records(folder, "classify") if whole.items() <= r.items()]
    found = {f"accuracy_{r['method']}": ("classify", r) for r in accuracies if r["method"] in ("log_mean", "kl")}
    bounds = [record for record in study.records(folder, "likelihood") if record["name"] == "nll"]
    found["nll"] = "likelihood", max(bounds, key=lambda record: record["importance_samples"])
    kl = sum(r["parts"]["per_set"] for r in study.records(folder, "kl_layers") if r["name"][0] == "c")
    theirs = {name: paper.published(task, record, config) for name, (task, record) in found.items()}
    text = {name: number.text for name, number in theirs.items() if number}
    return {"kl_c": kl, **{name: record["value"] for name, (_, record) in found.items()}, "paper": text}


def table(runs: study.Runs) -> str:
    """Rows: objectives; mean and 95 % interval over seeds, the paper's number in parentheses."""
    rows = []
    for name, found in runs.items():
        cells, theirs = [], found[0].get("paper", {})
        for key, form, factor in COLUMNS.values():
            cell = form.format(*study.interval([factor * run[key] for run in found]))
            cells.append(f"{cell} ({factor * float(theirs[key]):.4g})" if key in theirs else cell)
        rows.append([f"`{name}`", *cells])
    return study.markdown(["objective", *COLUMNS], rows)


def evaluation(task: str, options: str) -> list[str]:
    return [f"--tasks={task}", *(f"--eval.{option}" for option in options.split())]


STUDY = study.Study(
    "vhe_effect",
    variants={name: [f"--config=configs/cpu_vhe.py:{name},augmented"] for name in SHARED_BY},
    evaluations=[
        evaluation("kl_layers", "max_sets=320"),
        evaluation("classify", "shots=(5,) episodes=10 class_samples_c=4 class_samples_z=1 transfer=()"),
        # Whole classes of 20: 10 samples of c, 2 of every image's t.
        evaluation(
            "likelihood", "set_size=20 max_sets=50 estimator=nested importance_samples=10 importance_samples_z=2"
        ),
    ],
    numbers=numbers,
    table=table,
    panels={
        "train/kl_c": ("KL of c, nats per set", {"yscale": "log"}),
        "train/nelbo": ("training objective, nats per image", {"ylim": (None, 150)}),
    },
    # From the set's share of an image, which training logs, to the KL of a set.
    factor=lambda name, key: SHARED_BY[name] if key == "train/kl_c" else 1.0,
    seeds=3,
)

if __name__ == "__main__":
    study.main(STUDY)
