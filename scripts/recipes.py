"""Effect of one change of a recipe on a SCHA-VAE after the same number of images.

    python -m scripts.recipes runs/recipes [--jobs=2]

Trains configs/cpu_best.py (on the strokes of the papers' tables, `gmn`) and variants of it that differ in one thing,
every one for the same number of images, and compares them on the validation characters: NELBO of sets of 5 and NLL of
whole classes of 20, differences paired by class. One seed each, and what wins after minutes on a CPU need not win
after millions of images. Flags and results: see `study`.
"""

from pathlib import Path

from hfsgm_jax.evaluation.records import increase
from hfsgm_jax.evaluation.tables import Table, markdown
from scripts import study

CHANGES: dict[str, str] = {
    "base": "",
    "twice the learning rate": "optimizer.learning_rate=4e-3",
    "flips and turns as classes": "data.dihedral=True",
    "mean instead of lag": "model.aggregate=mean",
    "vhe": "objective.name=vhe objective.targets=5",
    "PixelCNN head": "model.pixelcnn_layers=2 model.pixelcnn_width=32",
}
COMMON = "data.resize=gmn train.eval_every=100 train.save_every=200 train.steps=600"  # 24,000 images


def arguments(change: str) -> list[str]:
    """Of train.py."""
    return ["--config=configs/cpu_best.py", *(f"--config.{part}" for part in f"{COMMON} {change}".split())]


def numbers(folder: Path) -> study.Numbers:
    """NELBO of sets of 5 and NLL of whole classes: nats per image, the error, and the totals by class."""
    found = {(r["name"], r["set_size"], r.get("importance_samples")): r for r in study.records(folder, "likelihood")}
    of = lambda record: {key: record[key] for key in ("value", "standard_error", "clusters")}
    return {"nelbo": of(found["nelbo", 5, 1]), "nll": of(found["nll", 20, SAMPLES_C])}


def table(runs: study.Runs) -> str:
    """Best first, with the difference from the first recipe and its paired error over classes."""
    base, rows = runs["base"][0], []
    for name, (run, *_) in sorted(runs.items(), key=lambda item: item[1][0]["nelbo"]["value"]):
        cells = [name]
        for key in ("nelbo", "nll"):
            more = increase(run[key], base[key])
            cells += [f"{run[key]['value']:.1f}", f"{more['increase']:+.1f} ± {more['increase_error']:.1f}"]
        rows.append([*cells, f"{run['images']:,.0f}"])
    head = ["recipe", "NELBO, sets of 5", "against base", "NLL, whole classes", "against base", "images seen"]
    return markdown(Table(head, rows))


VALIDATION = ["--tasks=likelihood", "--eval.split=val", "--eval.max_sets=97"]
SAMPLES_C = 10
WHOLE = ["--eval.set_size=20", "--eval.estimator=nested", f"--eval.importance_samples={SAMPLES_C}"]
STUDY = study.Study(
    "recipes",
    variants={name: arguments(change) for name, change in CHANGES.items()},
    evaluations=[[*VALIDATION, "--eval.importance_samples=1"], [*VALIDATION, *WHOLE, "--eval.importance_samples_z=2"]],
    numbers=numbers,
    table=table,
    panels={"val/nelbo": ("validation NELBO, nats per image", {"ylim": (None, 135)})},
)

if __name__ == "__main__":
    study.main(STUDY)
