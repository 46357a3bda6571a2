"""The same training in several layouts of processes and devices, on the CPU of this machine.

    python -m scripts.layouts [--out=results/layouts] [flags of train.py in place of the small default ones]

writes OUT/results.json: the losses of every logged step in each layout, their largest difference from the first
layout relative to the value, and seconds; and OUT/table.md from it. The batches and the noise are the same to the bit;
sums over the batch are taken in another order, so that losses differ by float32 rounding, which training magnifies.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import jax

from hfsgm_jax.evaluation.tables import Table, markdown
from hfsgm_jax.run_folder import read_metrics
from launch import local
from scripts.machine import machine

LAYOUTS = ((1, 1), (1, 8), (2, 4), (4, 2))  # processes, devices of each
VALUES = "train/loss", "train/nelbo", "val/nelbo"
SMALL = """--config=configs/quickstart.py --config.model.width=8 --config.model.c_channels=2 --config.model.z_channels=2
--config.model.heads=2 --config.model.encoder=8-1,1-1 --config.model.latents=8-1,1-1 --config.model.decoder=8-1
--config.train.steps=20 --config.train.log_every=1 --config.train.eval_every=10 --config.train.save_every=20
--config.eval.val_sets=16 --config.train.minutes=0""".split()


def run(arguments: list[str], processes: int, devices: int, folder: Path) -> dict:
    """Trains in one layout; its losses by step.

    Raises:
      RuntimeError: a process failed; its output.
    """
    start, log = time.monotonic(), folder / "log.txt"
    folder.mkdir(parents=True)
    with log.open("w") as output:
        command = ["train.py", *arguments, f"--workdir={folder / 'run'}"]
        running = local.start(command, processes, devices, outputs=[output] * processes)
        if any([process.wait() for process in running]):
            raise RuntimeError(f"{processes}x{devices} failed:\n{log.read_text()}")
    lines = read_metrics(folder / "run")
    losses = {name: {str(line["step"]): line[name] for line in lines if name in line} for name in VALUES}
    return {"processes": processes, "devices": devices, "seconds": time.monotonic() - start, "losses": losses}


def compare(results: list[dict]) -> None:
    """Adds the largest difference from the first layout to each, relative to the value."""
    first = results[0]["losses"]
    for result in results:
        result["largest_relative_difference"] = {
            name: max(abs(value / first[name][step] - 1) for step, value in values.items())
            for name, values in result["losses"].items()
        }


def table(results: list[dict]) -> str:
    """Markdown: a line per layout."""
    last = list(results[0]["losses"]["train/loss"])[-1]
    measured = [f"loss, step {last} (nats/image)", "validation NELBO", "largest relative difference", "s"]
    rows = []
    for found in results:
        loss, nelbo = found["losses"]["train/loss"][last], found["losses"]["val/nelbo"][last]
        most, where = max(found["largest_relative_difference"].values()), f"{found['processes']} × {found['devices']}"
        rows.append([where, f"{loss:.6f}", f"{nelbo:.6f}", f"{most:.1e}", f"{found['seconds']:.0f}"])
    return markdown(Table(["processes × devices", *measured], rows)) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/layouts"))
    flags, arguments = parser.parse_known_args()
    jax.config.update("jax_platforms", "cpu")
    with tempfile.TemporaryDirectory() as folder:
        results = [run(arguments or SMALL, *layout, Path(folder) / "x".join(map(str, layout))) for layout in LAYOUTS]
    compare(results)
    flags.out.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), "arguments": arguments or SMALL, "layouts": results}
    (flags.out / "results.json").write_text(json.dumps(content, indent=1) + "\n")
    (flags.out / "table.md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
