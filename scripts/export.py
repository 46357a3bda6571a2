"""Writes a trained model into a small folder of plain files, which `hfsgm_jax.load` and evaluate.py open.

python -m scripts.export RUN FOLDER [best|last|STEP] [bfloat16|float32]
"""

import sys

import hfsgm_jax
from hfsgm_jax.errors import UserError

if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 5:
        raise SystemExit(__doc__)
    try:
        files = hfsgm_jax.export(*sys.argv[1:])
    except UserError as error:
        raise SystemExit(f"export: {error}") from None
    for path in files:
        print(f"{path}  {path.stat().st_size / 2**20:.2f} MiB")
