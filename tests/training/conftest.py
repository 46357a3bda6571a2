"""Tiny programs run a moment and compile for seconds: XLA takes less care, and each is compiled once."""

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache
from many_processes import Programs


@pytest.fixture(autouse=True, scope="session")
def cache_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("xla")


@pytest.fixture(autouse=True, scope="module")
def quick_compilation(cache_folder):
    settings = dict(
        jax_disable_most_optimizations=True,
        jax_compilation_cache_dir=str(cache_folder),
        jax_persistent_cache_min_compile_time_secs=0.0,
    )
    before = {name: jax.config.values[name] for name in settings}
    for values in (settings, before):
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        if values is settings:
            yield


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Starts train.py and evaluate.py in several processes."""
    programs = Programs(tmp_path_factory.mktemp("programs"))
    yield programs
    programs.end()
