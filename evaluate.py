"""Evaluates a run: ``python evaluate.py --workdir=DIR --tasks=likelihood,sample [--eval.KEY=VALUE ...]``."""

from hfsgm_jax.programs.evaluate import run

if __name__ == "__main__":
    run()
