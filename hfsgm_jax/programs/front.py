"""The command ``hfsgm-jax``: what a trained model does with image files.

hfsgm-jax generate --model=omniglot images/*.png --num=16 --out=grid.png
hfsgm-jax classify --model=omniglot --classes=DIR queries/*.png
hfsgm-jax embed --model=omniglot images/*.png --out=set.npy
hfsgm-jax demo --model=omniglot
hfsgm-jax train --config=FILE --workdir=DIR        as train.py
hfsgm-jax evaluate --workdir=DIR --tasks=all       as evaluate.py
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

import hfsgm_jax
from hfsgm_jax.errors import UserError

PROGRAMS = ("train", "evaluate")  # with parsers of their own


def generate(args: argparse.Namespace) -> None:
    """Draws new images of the class of a few images, beside them, in one picture."""
    from hfsgm_jax.evaluation import pictures

    few = hfsgm_jax.load(args.model)
    images = few.read(args.images)
    new = few.generate(images, args.num, args.mode, args.seed, temperature=args.temperature)
    columns = min(8, args.num)
    rows = -(-max(len(images), args.num) // columns)
    blocks = [_rows(images, rows, -(-len(images) // rows)), _rows(new, rows, columns)]
    page = pictures.grid(blocks, ["shown", "new images"], scale=max(1, 64 // few.image_shape[0]))
    print(pictures.save(page, args.out))


def classify(args: argparse.Namespace) -> None:
    """Names the class of every query: a line each, with the probability of the class among those given."""
    from hfsgm_jax.data.folder import list_files

    few = hfsgm_jax.load(args.model)
    files = {}
    for name, file in list_files(args.classes):
        files.setdefault(name, []).append(file)
    supports = {name: few.read(members) for name, members in files.items()}
    labels, log_probs = few.classify(supports, few.read(args.images), seed=args.seed)
    for file, label, row in zip(args.images, labels, log_probs):
        print(f"{file}\t{label}\t{np.exp(row.max()):.3f}")


def embed(args: argparse.Namespace) -> None:
    """Writes the vector of the set of all the images (float32, NumPy's .npy)."""
    few, out = hfsgm_jax.load(args.model), Path(args.out).with_suffix(".npy")
    vector = few.embed(few.read(args.images))
    np.save(out, vector)
    print(f"{out}: {vector.size} numbers")


def demo(args: argparse.Namespace) -> None:
    """Opens a page in the browser: draw a character, and the model draws more of it."""
    from hfsgm_jax.demo.server import serve

    serve(args.model, args.host, args.port, args.browser)


def parser() -> argparse.ArgumentParser:
    """Of the commands with a model; the others are named."""
    whole_lines = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser("hfsgm-jax", description=__doc__, formatter_class=whole_lines)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    default = next(iter(hfsgm_jax.pretrained()), None)

    def command(function: Callable[[argparse.Namespace], None], images: str = "") -> argparse.ArgumentParser:
        found = commands.add_parser(function.__name__, help=function.__doc__, description=function.__doc__)
        found.set_defaults(function=function)
        names = ", ".join(hfsgm_jax.pretrained())
        found.add_argument("--model", default=default, help=f"folder of a run, or one of {names} (default {default})")
        if images:
            found.add_argument("images", nargs="+", help=f"{images}; any size, grey or colour")
        return found

    made = command(generate, "image files of one class")
    made.add_argument("--num", type=int, default=16, help="how many new images (default %(default)s)")
    made.add_argument("--mode", default="conditional", help="conditional, one_pass or refined (default %(default)s)")
    made.add_argument("--temperature", type=float, default=1.0, help="of the latents (default %(default)s)")
    made.add_argument("--seed", type=int, default=0, help="of the noise (default %(default)s)")
    made.add_argument("--out", default="new_images.png", help="the picture, .png (default %(default)s)")
    named = command(classify, "image files whose class is asked for")
    named.add_argument("--classes", required=True, help="folder with one folder of images per class")
    named.add_argument("--seed", type=int, default=0, help="of the noise (default %(default)s)")
    command(embed, "image files of one class").add_argument("--out", default="set.npy", help="the vector, .npy")
    page = command(demo)
    page.add_argument("--host", default="127.0.0.1", help="address to listen on: 0.0.0.0 lets other machines in")
    page.add_argument("--port", type=int, default=7860, help="default %(default)s")
    page.add_argument("--no-browser", dest="browser", action="store_false", help="only print the address")
    for name in PROGRAMS:
        commands.add_parser(name, help=f"as {name}.py")
    return top


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in PROGRAMS:
        sys.path.insert(0, os.getcwd())  # config files import their neighbours
        del sys.argv[1]
        return importlib.import_module(f"hfsgm_jax.programs.{name}").main()
    args = parser().parse_args()
    try:
        args.function(args)
    except (UserError, OSError) as error:
        raise SystemExit(f"hfsgm-jax {args.command}: {error}") from None


def _rows(images: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """``[n, H, W, C]`` -> ``[rows, columns, H, W, C]``, NaN where there is no image."""
    cells = np.full((rows * columns, *images.shape[1:]), np.nan, np.float32)
    cells[: len(images)] = images
    return cells.reshape(rows, columns, *images.shape[1:])


if __name__ == "__main__":
    main()
