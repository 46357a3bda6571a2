"""The command line: training, evaluation, and what a trained model does with image files."""

import argparse
from collections.abc import Sequence


def make_parser(name: str, doc: str) -> argparse.ArgumentParser:
    """The parser of a program of one or several processes."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(name, description=doc, formatter_class=formatter, allow_abbrev=False)
    parser.add_argument("--coordinator", help="several processes: HOST:PORT of the first, or auto (SLURM, TPU, MPI)")
    parser.add_argument("--num_processes", type=int, help="with --coordinator=HOST:PORT: how many processes there are")
    parser.add_argument("--process_id", type=int, help="with --coordinator=HOST:PORT: which of them this is, from 0")
    return parser


def parse(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, prefix: str
) -> tuple[argparse.Namespace, dict[str, str]]:
    """The options of a program, and the values of the keys that are set by ``--PREFIX.KEY=VALUE``."""
    options, others = parser.parse_known_args(argv)
    values = {}
    for argument in others:
        key, equals, value = argument.removeprefix(f"--{prefix}").partition("=")
        if not (argument.startswith(f"--{prefix}") and equals):
            parser.error(f"unknown argument {argument!r}; keys are set by --{prefix}SECTION.KEY=VALUE")
        values[key] = value
    return options, values
