"""Keeps the results of runs in results/ and renders them: docs/curves.png and the table in README.md.

python -m scripts.results runs/NAME [runs/OTHER ...]   # keep these runs' results, then render
python -m scripts.results                              # render what is kept
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib

from hfsgm_jax.training.log import METRICS_FILE, read_metrics
from scripts import readme
from scripts.machine import machine

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RESULTS, CURVES = ROOT / "results", ROOT / "docs" / "curves.png"
KEPT = ("config.json", METRICS_FILE, "eval/*.json", "eval/sample.png")


def keep(run: Path) -> None:
    """Copies the results of a run into results/NAME, with their provenance."""
    folder = RESULTS / run.name
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in KEPT:
        for path in run.glob(pattern):
            shutil.copyfile(path, folder / path.name)
    (folder / "machine.json").write_text(json.dumps({**machine(), "commit": _trained_at(run)}, indent=1) + "\n")


def _trained_at(run: Path) -> str:
    """The last commit before training wrote the run's config, which it does when it starts."""
    started = f"--before={int((run / 'config.json').stat().st_mtime)}"
    found = subprocess.run(["git", "rev-list", "-1", started, "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return found.stdout.strip()[:12]


def kept() -> list[Path]:
    """Folders of all results."""
    return sorted(path.parent for path in RESULTS.glob(f"*/{METRICS_FILE}"))


def row(folder: Path) -> str:
    """One run as a row of the table."""
    config = json.loads((folder / "config.json").read_text())
    lines, where = read_metrics(folder), json.loads((folder / "machine.json").read_text())
    records = json.loads((folder / "likelihood.json").read_text())
    nelbo, nll, optimizer = _widest(records, "nelbo"), _widest(records, "nll"), config["optimizer"]
    independent = _widest(records, "independent_pixels")
    error = lambda record: f"{record['value']:.1f} ± {record['standard_error']:.1f}"  # noqa: E731
    last = [line for line in lines if line["step"] <= nelbo["step"]][-1]
    data = f"{nelbo['source']} {nelbo['scheme']}, {nelbo['resize']}, sets of {nelbo['set_size']}"
    machine_name = f"{where['cpu']}, {where['cores']} cores" if where["device"] == "cpu" else where["device"]
    pixels = f"{independent['value']:.1f}" if independent else ""
    sample = folder / "sample.json"
    named = json.loads(sample.read_text()) if sample.exists() else []
    named = [r for r in named if r["name"] == "recognised" and r.get("kind") == "conditional"]
    samples = f"{named[-1]['value']:.0%} of {named[-1]['ways']}-way" if named else ""
    cells = [
        f"`{folder.name}`",
        data,
        f"{config['data']['sets_per_batch']} sets, {optimizer['name']} {optimizer['learning_rate']:g}",
        f"{last['images']:,}",
        f"{last['seconds'] / 60:.1f}",
        error(nelbo),
        f"{error(nll)} (K={nll['importance_samples']})",
        pixels,
        samples,
        machine_name,
    ]
    return "| " + " | ".join(cells) + " |"


def _widest(records: list[dict], name: str) -> dict | None:
    """Of several records of one name, that of the most sets, then of the most importance samples."""
    found = [record for record in records if record["name"] == name]
    return max(found, key=lambda r: (r["num_sets"], r.get("importance_samples", 0)), default=None)


def table() -> str:
    """All kept results as Markdown; nats per image, ± standard error over sets."""
    lines = [
        "| run | test data | batch, optimizer | images seen | minutes | NELBO | NLL | independent pixels | recognised "
        "| machine |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join(lines + [row(folder) for folder in kept() if (folder / "likelihood.json").exists()])


def curves() -> None:
    """Validation NELBO of all kept runs against images seen and against minutes."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout="constrained")
    for folder in kept():
        lines = [line for line in read_metrics(folder) if "val/nelbo" in line]
        for axis, x in zip(axes, ("images", "seconds"), strict=True):
            scale = 60 if x == "seconds" else 1000
            axis.plot(
                [line[x] / scale for line in lines], [line["val/nelbo"] for line in lines], ".-", label=folder.name
            )
    axes[0].set(xlabel="images seen, thousands", ylabel="validation NELBO, nats per image")
    axes[1].set(xlabel="minutes of training, compilation included")
    axes[0].legend(fontsize=8)
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.savefig(CURVES, dpi=110)


def main(runs: list[str]) -> None:
    for run in runs:
        keep(Path(run))
    curves()
    readme.write("results", table())
    print(table())


if __name__ == "__main__":
    main(sys.argv[1:])
