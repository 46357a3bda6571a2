"""Evaluates a run: ``python evaluate.py --workdir=DIR --tasks=likelihood,sample [--eval.KEY=VALUE ...]``."""

from hfsgm_jax.programs.evaluate import main

if __name__ == "__main__":
    main()
