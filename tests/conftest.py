"""Devices of the tests, quick compilation, and tiny models shared by all tests that need one.

On the CPU, unless JAX_PLATFORMS says otherwise: `JAX_PLATFORMS=cuda` is the GPU, `JAX_PLATFORMS=` (empty) whatever JAX
finds first. On an accelerator `tests/models/test_invariants.py` and the like make sense; tests of several devices or
of bits that resume need eight devices, and a CPU.
"""

import gc
import importlib.metadata
import os
import pathlib

# Tests compile much and compute little: this takes three quarters of their time. Before JAX starts.
ON_CPU = os.environ.setdefault("JAX_PLATFORMS", "cpu") == "cpu"
_FLAGS = os.environ.get("XLA_FLAGS", "")
if ON_CPU and "xla_backend_optimization_level" not in _FLAGS:
    _FLAGS += " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    if importlib.metadata.version("jaxlib").startswith("0.10."):  # others may not know these flags, and would abort
        _FLAGS += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = _FLAGS.strip()
# What one test, worker or run has compiled, the others read.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

gc.set_threshold(100_000, 50, 100)  # tracing makes many objects that stay; looking at them took a tenth of the time

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import pytest  # noqa: E402
from tiny_model import random_variables, tiny_config  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)  # only those who ask for a mesh use more than the first
# GPUs and TPUs multiply float32 with 10 or 8 bits of precision unless told otherwise; the tolerances are of float32.
jax.config.update("jax_default_matmul_precision", "highest")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Images read by tests are cached apart from the user's, once for all workers."""
    base = tmp_path_factory.getbasetemp()
    os.environ["HFSGM_CACHE"] = str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache")


@pytest.fixture(scope="session")
def tiny():
    """``(model, variables)`` of `tiny_config`, with random variables."""
    from hfsgm_jax.models import build_model

    model = build_model(tiny_config().model, (28, 28, 1))
    return model, random_variables(model)


@pytest.fixture(scope="session")
def tiny_vae():
    """``(model, abstract variables)`` of a VAE: it has no latent that a set shares."""
    from hfsgm_jax.models import vae
    from hfsgm_jax.trace import Plan, Sets

    model = vae(width=8, z_channels=2, layers=1, blocks=1)
    keys = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    init = lambda keys: model.init(keys, Sets.of(jnp.zeros((1, 1, 28, 28, 1))), Plan())
    return model, jax.eval_shape(init, keys)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """The folder of a SCHA-VAE trained for two steps."""
    from hfsgm_jax.training import train

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    train(tiny_config(), folder)
    return folder
