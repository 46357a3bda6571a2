"""The training step over configs, batch sizes, dtypes and numbers of devices: every combination.

    python -m benchmarks.matrix --configs=quickstart,vhe_deconv:vhe|all [--batches=4,16] [--dtypes=float32,bfloat16]
        [--devices=1,2] [--steps=50] [--seconds=60] [--out=benchmarks/results] [--again] [--minutes=0]
        [--config.SECTION.KEY=VALUE ...]

Each measurement is a process of its own (`benchmarks.train_step`), so that peak memory is its own, and a file
`train_step_CONFIG_bBATCH_DTYPE_dDEVICES.json`. What no list is given for is as the config has it. A file that holds
the same measurement at the same commit is kept, unless --again; --minutes begins no new one after that time.
Arguments `--config...` go to all of them: `--config.data.source=strokes --config.data.resize=box` needs no data.
"""

import argparse
import itertools
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.runner import RESULTS, Item, report, run
from scripts.parameters import experiments

AXES = {  # flag -> its letter in the name of a file, and the flag of `benchmarks.train_step`
    "batches": ("b", "--config.data.sets_per_batch"),
    "dtypes": ("", "--config.model.dtype"),
    "devices": ("d", "--devices"),
}


def items(configs: Iterable[str], axes: dict[str, Sequence[str]], arguments: Sequence[str] = ()) -> list[Item]:
    """Every combination.

    Args:
      configs: names in ``configs/``, with an argument of the config, if any, after a colon.
      axes: a key of `AXES` -> the values to measure; none: as the config has it.
      arguments: for all of them.
    """
    found = []
    for config, *values in itertools.product(configs, *(axes.get(name) or [""] for name in AXES)):
        file, colon, argument = config.partition(":")
        set_ones = [(value, *axis) for value, axis in zip(values, AXES.values()) if value]
        name = "_".join(["train_step", file, *([argument] if colon else []), *(s + v for v, s, _ in set_ones)])
        flags = [f"--config=configs/{file}.py{colon}{argument}", *(f"{flag}={v}" for v, _, flag in set_ones)]
        found.append(Item(name, "train_step", (*flags, *arguments)))
    return found


def main(argv: list[str]) -> int:
    as_it_is = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_it_is, allow_abbrev=False)
    words = lambda text: text.split(",")
    parser.add_argument("--configs", type=words, required=True, help="names in configs/, or all")
    for name in AXES:
        parser.add_argument(f"--{name}", type=words, default=[])
    parser.add_argument("--steps", type=int, default=50, help="timed optimizer steps of each")
    parser.add_argument("--seconds", type=float, default=60.0, help="after which no new step of one is timed")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--again", action="store_true", help="measure also what is there")
    parser.add_argument("--minutes", type=float, default=0.0, help="after which no new measurement begins")
    flags, others = parser.parse_known_args(argv)
    if wrong := [other for other in others if not other.startswith("--config.")]:
        parser.error(f"unknown arguments {' '.join(wrong)}; those for the measurements are --config.SECTION.KEY=VALUE")
    configs = experiments() if flags.configs == ["all"] else flags.configs
    if unknown := [name for name in configs if name.partition(":")[0] not in experiments()]:
        parser.error(f"no such configs: {', '.join(unknown)}; there are {', '.join(experiments())}")
    timing = [f"--steps={flags.steps}", f"--seconds={flags.seconds:g}"]
    planned = items(configs, {name: getattr(flags, name) for name in AXES}, [*others, *timing])
    return report(run(planned, flags.out.resolve(), flags.again, flags.minutes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
