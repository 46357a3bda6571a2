"""The command line: training, evaluation, and what a trained model does with image files."""

import sys
from collections.abc import Sequence

from absl import flags


def asks_for_help(argv: Sequence[str]) -> bool:
    return bool({"-h", "-help", "--help", "--helpshort"} & {*argv[1:]})


def show_help(doc: str, module: str) -> None:
    """Prints what a program does and its module's flags, and ends it."""
    print(doc, flags.FLAGS.module_help(module).partition(":\n")[2], sep="\n")
    sys.exit(0)
