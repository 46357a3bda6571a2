"""What one change of a recipe does to a SCHA-VAE after the same number of images: the evidence behind configs/best_*.

    python -m scripts.recipes runs/recipes [--images=24000] [--jobs=2] [--only=base,adamax]

Trains configs/cpu_best.py (on the strokes of the papers' tables, `gmn`) and variants of it that differ in one thing,
every one for the same number of images, and compares them on the validation characters: NELBO of sets of 5 and of
whole classes of 20. Writes results/recipes (results.json and curves.png) and the table in README.md. One seed each:
differences below a nat mean little, and what wins after minutes on a CPU need not win after millions of images.
"""

import argparse
from pathlib import Path

from scripts import study

OUT = study.ROOT / "results" / "recipes"
CONFIG = "configs/cpu_best.py"
SETS, SET_SIZE = 8, 5
PANELS = {"val/nelbo": ("validation NELBO, nats per image", {"ylim": (None, 135)})}
COMMON = ("data.resize=gmn", "train.eval_every=100", "train.save_every=200")
EVALUATIONS = tuple(
    ("likelihood", ["--eval.split=val", f"--eval.set_size={size}", "--eval.max_sets=97", "--eval.importance_samples=1"])
    for size in (5, 20)
)
RECIPES: dict[str, tuple[str, ...]] = {
    "base": (),
    "half the learning rate": ("optimizer.learning_rate=1e-3",),
    "twice the learning rate": ("optimizer.learning_rate=4e-3",),
    "adamax": ("optimizer.name=adamax",),
    "constant rate": ("optimizer.schedule=constant",),
    "no averaged parameters": ("optimizer.ema=0.0",),
    "batches of 4 sets": ("data.sets_per_batch=4",),
    "batches of 16 sets": ("data.sets_per_batch=16",),
    "sets of 2 to 10": ("data.set_size=(2,10)",),
    "small affine warps": ("data.affine=0.1",),
    "flips and turns as classes": ("data.dihedral=True",),
    "decoder sees a corner of c": ("model.decoder_context=top_left",),
    "latents at 16x16 as well": (
        "model.patch=2",
        "model.encoder=16-2,8-2,4-2,2-2,1-2",
        "model.latents=16-2,8-2,4-2,2-2,1-2",
        "model.decoder=16-2",
    ),
    "mean instead of lag": ("model.aggregate=mean",),
    "rescale": ("objective.name=rescale",),
    "resample": ("objective.name=resample", "objective.targets=5"),
    "vhe": ("objective.name=vhe", "objective.targets=5"),
    "PixelCNN head": ("model.pixelcnn_layers=2", "model.pixelcnn_width=32"),
}


def variant(name: str, images: int) -> study.Variant:
    """The run of a recipe: as many steps as its batches need for ``images`` (sets of 2 to 10 count as sets of 6)."""
    changes = dict(change.split("=", 1) for change in RECIPES[name])
    sets = int(changes.get("data.sets_per_batch", SETS))
    size = 6 if "data.set_size" in changes else SET_SIZE
    steps = 100 * round(images / (sets * size) / 100)
    return study.Variant(name.replace(" ", "_"), CONFIG, steps, (*COMMON, *RECIPES[name]))


def numbers(folder: Path) -> study.Numbers:
    """Validation NELBO of sets of 5 and of whole classes, nats per image."""
    found = {r["set_size"]: r["value"] for r in study.records(folder, "likelihood") if r["name"] == "nelbo"}
    last = study.training(folder)
    return {"nelbo": found[5], "nelbo_whole_class": found[20], "images": last["images"], "step": last["step"]}


def table(results: dict[str, study.Numbers]) -> str:
    """Best first, with the difference from the first recipe."""
    base = results.get("base")
    rows = []
    for name, run in sorted(results.items(), key=lambda item: item[1]["nelbo"]):
        cells = [name]
        for key in ("nelbo", "nelbo_whole_class"):
            cells += [f"{run[key]:.1f}", f"{run[key] - base[key]:+.1f}" if base else ""]
        rows.append([*cells, f"{run['images']:,.0f}"])
    head = ["recipe", "NELBO, sets of 5", "against base", "NELBO, sets of 20", "against base", "images seen"]
    return study.markdown(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=24_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default=",".join(RECIPES), help="comma-separated recipes")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    unknown = sorted(set(names) - set(RECIPES))
    if unknown:
        parser.error(f"no recipe {unknown}; there are {list(RECIPES)}")
    variants = {name: variant(name, arguments.images) for name in names}
    found = study.measure(arguments.folder, list(variants.values()), EVALUATIONS, numbers, arguments.jobs)
    results = {name: found[variants[name].name] for name in names}
    changes = {name: list(RECIPES[name]) for name in names}
    study.write(
        OUT,
        {"config": CONFIG, "common": COMMON, "evaluations": EVALUATIONS, "changes": changes, "runs": results},
        table(results),
    )
    study.curves({name: [arguments.folder / variants[name].name] for name in names}, PANELS, OUT / "curves.png")


if __name__ == "__main__":
    main()
