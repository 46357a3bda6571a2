"""The product of matrices with its own gradient equals autodiff's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfsgm_jax.nn.layers import matmul


@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 4, 4, 5), (5,)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_matmul_and_its_gradients(shape, dtype):
    rng = np.random.default_rng(0)
    x, kernel, g = (jnp.asarray(rng.normal(size=s), dtype) for s in (shape, (5, 6), (*shape[:-1], 6)))
    ours, ours_back = jax.vjp(matmul, x, kernel)
    autodiff, autodiff_back = jax.vjp(jnp.matmul, x, kernel)
    tolerance = 1e-6 if dtype == jnp.float32 else 2**-7
    for a, b in zip((ours, *ours_back(g)), (autodiff, *autodiff_back(g))):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(np.float32(a), np.float32(b), rtol=tolerance, atol=5 * tolerance)
