"""``python -m hfsgm_jax.demo --model=...``, as ``hfsgm-jax demo``."""

import sys

from hfsgm_jax.programs import front

if __name__ == "__main__":
    sys.argv.insert(1, "demo")
    front.main()
