"""Writes a trained model into a small folder of plain files, which `hfsgm_jax.load` and evaluate.py open.

python -m scripts.export RUN OUT [--step=best] [--dtype=bfloat16]
"""

import argparse

import hfsgm_jax


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="folder of a run of train.py")
    parser.add_argument("out", help="folder to write")
    parser.add_argument("--step", default="best", help="best (by validation NELBO), last, or a number")
    parser.add_argument("--dtype", default="bfloat16", help="bfloat16 (half the size), or float32")
    args = parser.parse_args()
    try:
        files = hfsgm_jax.export(args.run, args.out, args.step, args.dtype)
    except ValueError as error:
        raise SystemExit(f"export: {error}") from None
    for path in files:
        print(f"{path}  {path.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
