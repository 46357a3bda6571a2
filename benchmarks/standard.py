"""The standard measurements of a machine: every benchmark, models of every family, in minutes on two CPU cores.

    python -m benchmarks.standard [--minutes=11] [--only=TEXT] [--again] [--list] [--out=benchmarks/results]

Each measurement is a process of its own and a file of its own. A file that holds the same measurement at the same
commit is kept, unless --again; after --minutes no new one begins, and running again does what is left. Another
machine's results go to another folder (--out=benchmarks/results/NAME). For accelerators `benchmarks.matrix` measures
models and batches of their size. Procedural characters stand for Omniglot (the same shapes, no data to download), but
for the measurement of reading from disk, which needs the prepared data set. Nothing else should run meanwhile.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.matrix import items as grid
from benchmarks.runner import RESULTS, Item, report, run
from scripts.benchmark import command

STROKES = ("--config.data.source=strokes", "--config.data.resize=box")
SHORT = ("--steps=20", "--seconds=10")
SMALL = "--config=configs/quickstart.py"


def items() -> list[Item]:
    """All of them, the most telling first."""
    return [
        *grid(["cpu_omniglot_scha_vae_lag"], {"batches": ["4"]}, (*STROKES, *SHORT)),
        *grid(["quickstart"], {"batches": ["8"], "devices": ["1", "2"]}, SHORT),
        Item("sampling_scha_vae", "sampling", (SMALL, "--seconds=5")),
        Item("sampling_pixelcnn_vhe", "sampling", ("--config=configs/cpu_vhe.py:vhe", *STROKES, "--seconds=5")),
        Item("sampling_pixelcnn_head", "sampling", (SMALL, "--config.model.pixelcnn_layers=2", "--seconds=5")),
        Item("data_omniglot", "data", (SMALL, "--config.data.source=omniglot", "--train_steps=20", "--seconds=5")),
        Item("weak_scaling", "weak_scaling", (SMALL, "--devices=2", "--rows=4", "--seconds=5")),
        *(Item(f"importance_sampling_K{k}", "importance_sampling", importance(k)) for k in (10, 100, 1000)),
        *grid(["cpu_vhe:vhe"], {"batches": ["8"]}, (*STROKES, *SHORT)),
        *grid(["omniglot_ns", "omniglot_hfsgm"], {"batches": ["16"]}, (*STROKES, *SHORT)),
        *grid(["quickstart"], {"batches": ["8"], "dtypes": ["bfloat16"]}, SHORT),
        *grid(["quickstart"], {"batches": ["32"]}, SHORT),
    ]


def importance(samples: int) -> tuple[str, ...]:
    """Arguments: memory must not grow with K."""
    return SMALL, "--sets=2", f"--samples={samples}", "--repeat=2"


def main(argv: list[str]) -> int:
    as_it_is = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_it_is, allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=11.0, help="after which no new measurement begins")
    parser.add_argument("--only", default="", help="measurements whose name contains this")
    parser.add_argument("--again", action="store_true", help="measure also what is there")
    parser.add_argument("--list", action="store_true", help="print the commands, measure nothing")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON files")
    flags = parser.parse_args(argv)
    chosen = [item for item in items() if flags.only in item.name]
    if flags.list:
        print("\n".join(f"{item.name}: {command(item.kind, list(item.arguments))}" for item in chosen))
        return 0
    return report(run(chosen, flags.out.resolve(), flags.again, flags.minutes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
