"""Evaluations as tests need them."""

import dataclasses

from hfsgm_jax.config import set_overrides
from hfsgm_jax.evaluation import Evaluation
from hfsgm_jax.evaluation.run import begin, finish


def evaluation_of(folder, overrides=None, **options):
    """The evaluation of a run's folder with ``eval.*`` options, and other overrides by their whole names."""
    return Evaluation.open(folder, {**(overrides or {}), **{f"eval.{key}": value for key, value in options.items()}})


def changed(run, overrides=None, **options):
    """An evaluation with ``eval.*`` options, and overrides of other sections by their whole names."""
    config = run.config.copy_and_resolve_references()
    values = {**(overrides or {}), **{f"eval.{key}": value for key, value in options.items()}}
    return dataclasses.replace(run, config=set_overrides(config, values))


def results_of(run, task):
    """The finished records of one task; raises where the task refuses."""
    return finish(run, task.__name__, begin(run, task.__name__, task))


def is_picture(run, result):
    return (run.workdir / result["pictures"][0]).read_bytes().startswith(b"\x89PNG")
