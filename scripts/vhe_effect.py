"""Effect of the four objectives of the VHE papers on the set latent of a model with an autoregressive decoder.

    python -m scripts.vhe_effect runs/vhe_effect [--seeds=3] [--jobs=2] [--config.train.steps=1000]

Trains configs/cpu_vhe.py (images augmented as for Table 1 of the VHE paper) with every objective and seed, and
evaluates each run on the test characters, the KL of c on those of training. Flags and results: see `study`.
"""

from pathlib import Path

from hfsgm_jax.config import load_config
from hfsgm_jax.evaluation.page import paper
from hfsgm_jax.evaluation.tables import Table, markdown
from scripts import study

SHARED_BY = {"ns": 5, "resample": 5, "rescale": 400, "vhe": 400}  # images: |D|, or 20 of a class in 20 warps each
COLUMNS = {  # of the table: key, decimals, factor, whether the difference from `ns` is shown
    "KL of c in training, nats per set": ("kl_c", 2, 1, False),
    "20-way 5-shot, log p(x given c), %": ("accuracy_log_mean", 1, 100, True),
    "the same by KL of contexts, %": ("accuracy_kl", 1, 100, False),
    "NELBO, sets of 5": ("nelbo", 2, 1, False),
    "NLL, whole classes": ("nll", 2, 1, True),
}


def numbers(folder: Path) -> study.Numbers:
    """KL of c, accuracies and bounds of one run; ``paper``: what the VHE paper has beside them."""
    config, whole = load_config(folder).to_dict(), {"name": "accuracy", "classes": "whole test set"}
    accuracies = [r for r in study.records(folder, "classify") if whole.items() <= r.items()]
    found = {f"accuracy_{r['method']}": ("classify", r) for r in accuracies if r["method"] in ("log_mean", "kl")}
    bounds = study.records(folder, "likelihood")
    whole_classes = [record for record in bounds if record["name"] == "nll" and record["set_size"] == 20]
    found["nll"] = "likelihood", max(whole_classes, key=lambda record: record["importance_samples"])
    (nelbo,) = (record for record in bounds if record["name"] == "nelbo" and record["set_size"] == 5)
    (kl,) = (r for r in study.records(folder, "kl_layers") if r["name"] == "kl_c" and r["split"] == "train")
    found |= {"nelbo": ("likelihood", nelbo), "kl_c": ("kl_layers", kl)}
    theirs = {name: paper.published(task, record, config) for name, (task, record) in found.items()}
    text = {name: number.text for name, number in theirs.items() if number}
    return {name: record["value"] for name, (_, record) in found.items()} | {"paper": text}


def table(runs: study.Runs) -> str:
    """Rows: objectives; mean and 95 % interval over seeds, the paper's number in parentheses.

    Differences from the first objective are of runs of the same seed, on the same images.
    """
    first, rows, head = next(iter(runs)), [], ["objective"]
    for title, (*_, compared) in COLUMNS.items():
        head += [title, f"− `{first}`"] if compared else [title]
    for name, found in runs.items():
        cells, theirs = [], found[0].get("paper", {})
        for key, decimals, factor, compared in COLUMNS.values():
            values = [factor * run[key] for run in found]
            mean, half = study.interval(values)
            paper_has = f" ({factor * float(theirs[key]):.4g})" if key in theirs else ""
            cells.append(f"{mean:.{decimals}f} ± {half:.{decimals}f}{paper_has}")
            if compared:
                mean, half = study.interval([x - factor * run[key] for x, run in zip(values, runs[first])])
                cells.append("" if name == first else f"{mean:+.{decimals}f} ± {half:.{decimals}f}")
        rows.append([f"`{name}`", *cells])
    return markdown(Table(head, rows))


def evaluation(task: str, options: str) -> list[str]:
    return [f"--tasks={task}", *(f"--eval.{option}" for option in options.split())]


STUDY = study.Study(
    "vhe_effect",
    variants={name: [f"--config=configs/cpu_vhe.py:{name},augmented"] for name in SHARED_BY},
    evaluations=[
        evaluation("kl_layers", "split=train max_sets=320"),
        evaluation("classify", "shots=(5,) episodes=10 class_samples_c=4 class_samples_z=1 transfer=()"),
        evaluation("likelihood", "max_sets=320 estimator=joint importance_samples=1"),
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
