"""The layers' own gradients."""

import chex
import jax
import jax.numpy as jnp
import pytest

from hfsgm_jax import devices
from hfsgm_jax.nn import layers


@pytest.mark.parametrize("positions", [4096, 64], ids=["at once", "few at a time"])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
@pytest.mark.parametrize("size, padding", [(8, ((1, 1), (1, 1))), (7, ((0, 1), (2, 0))), (9, ((0, 0), (0, 0)))])
def test_gradients_of_a_convolution_are_those_of_jax(monkeypatch, size, padding, strides, positions):
    monkeypatch.setattr(layers, "POSITIONS", positions)
    keys = jax.random.split(jax.random.key(0), 3)
    x, kernel = jax.random.normal(keys[0], (6, size, size, 3)), jax.random.normal(keys[1], (3, 3, 3, 4))

    def gradients(function):
        y, backward = jax.vjp(function, x, kernel)
        return y, backward(jax.random.normal(keys[2], y.shape))

    own = gradients(lambda x, kernel: layers.convolve(x, kernel, strides, padding))
    jaxs = gradients(
        lambda x, kernel: jax.lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    )
    chex.assert_trees_all_close(own, jaxs, atol=3e-5)  # of values up to 30
    chex.assert_trees_all_equal_shapes_and_dtypes(own, jaxs)
    assert jnp.abs(own[1][1]).max() > 1


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape, features", [((2, 3, 4, 4, 8), 5), ((2, 3, 4, 4, 5), 8), ((2, 3, 5), 8)])
def test_gradients_of_a_product_are_those_of_jax(shape, features, dtype):
    keys = jax.random.split(jax.random.key(0), 3)
    x, kernel = (jax.random.normal(key, s, dtype) for key, s in zip(keys, (shape, (shape[-1], features))))

    def gradients(function):
        y, backward = jax.vjp(function, x, kernel)
        return y, backward(jax.random.normal(keys[2], y.shape, dtype))

    own, jaxs = gradients(layers.product), gradients(jnp.matmul)
    chex.assert_trees_all_close(own, jaxs, rtol=1e-5 if dtype == jnp.float32 else 2e-2, atol=1e-5)
    chex.assert_trees_all_equal_shapes_and_dtypes(own, jaxs)


def test_devices_add_up_gradients_of_their_own_images():
    mesh, keys = devices.make_mesh(2), jax.random.split(jax.random.key(0), 2)
    x, kernel = jax.random.normal(keys[0], (24, 32, 32, 3)), jax.random.normal(keys[1], (3, 3, 3, 4))
    loss = lambda kernel, x: jnp.square(layers.convolve(x, kernel, (1, 1), ((1, 1), (1, 1)))).mean()

    def spread(kernel, x):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return jax.grad(loss)(kernel, x)

    placed = devices.place(kernel, devices.replicated(mesh)), devices.place(x, devices.by_rows(mesh))
    program = jax.jit(spread, out_shardings=devices.replicated(mesh)).lower(*placed).compile()
    assert "all-gather" not in program.as_text() and "all-reduce" in program.as_text()
    chex.assert_trees_all_close(program(*placed), jax.grad(loss)(kernel, x), rtol=1e-5, atol=1e-5)
