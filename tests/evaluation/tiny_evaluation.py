"""Evaluations of the run that all tests share."""

from pathlib import Path

from hfsgm_jax.evaluation import Evaluation
from hfsgm_jax.run_folder import open_run


def evaluation_of(folder, overrides=None, **options):
    """The evaluation of a run with ``eval.*`` options, and overrides of other sections by their whole names."""
    run = open_run(folder, overrides={**(overrides or {}), **{f"eval.{key}": value for key, value in options.items()}})
    return Evaluation(Path(folder), *run)
