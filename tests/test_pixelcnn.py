"""The PixelCNN: causal, drawn as it is evaluated, and a distribution over all images."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfsgm_jax.nn.pixelcnn import PixelCNN, draw_map

SIZE = 5


@functools.cache
def network(conditional, channels=1, size=SIZE, layers=3):
    net = PixelCNN(outputs=2 * channels, channels=channels, features=16, layers=layers)
    y = jax.random.normal(jax.random.key(1), (2, size, size, 3)) if conditional else None
    variables = jax.jit(net.init)(jax.random.key(0), jnp.zeros((2, size, size, channels)), y)
    rng = np.random.default_rng(0)
    noisy = jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape).astype(np.float32), jax.device_get(variables))
    return net, noisy, y


@pytest.mark.parametrize("conditional", [True, False])
def test_a_position_sees_those_before_it_and_no_other(conditional):
    net, variables, y = network(conditional)
    x = jax.random.normal(jax.random.key(2), (2, SIZE, SIZE, 1))
    jacobian = jax.jit(jax.jacobian(lambda x: net.apply(variables, x, y)[0].sum(-1).ravel()))(x)[:, 0]
    sees = np.abs(np.asarray(jacobian).reshape(SIZE**2, SIZE**2)) > 0
    assert not np.triu(sees).any()
    for i, j in itertools.product(range(SIZE), repeat=2):  # within reach nothing before it is missed
        row = sees[i * SIZE + j].reshape(SIZE, SIZE)
        assert row[max(0, i - 3) : i, max(0, j - 3) : j + 2].all()
        assert row[i, max(0, j - 3) : j].all()


@pytest.mark.parametrize("conditional", [True, False])
def test_drawing_agrees_with_evaluating(conditional):
    net, variables, y = network(conditional, channels=2)
    noise = jax.random.normal(jax.random.key(3), (2, SIZE, SIZE, 2))

    def draw(params, eps):
        loc, raw = jnp.split(params, 2, -1)
        return jnp.tanh(loc) + jax.nn.sigmoid(raw) * eps, params  # bounded, or errors would grow along the map

    x, params = jax.jit(lambda noise: draw_map(net, variables, y, noise, draw))(noise)
    np.testing.assert_allclose(jax.jit(net.apply)(variables, x, y), params, atol=1e-5)
    nothing, _ = draw_map(net, variables, y, noise, draw, rows=jnp.int32(0))
    assert not nothing.any()


def test_all_binary_images_sum_to_one():
    net, variables, y = network(True, size=3)
    images = jnp.array(list(itertools.product((0.0, 1.0), repeat=9))).reshape(-1, 3, 3, 1)
    logits = jax.jit(net.apply)(variables, images, jnp.broadcast_to(y[:1], (len(images), *y.shape[1:])))[..., :1]
    log_p = (images * logits - jax.nn.softplus(logits)).sum((1, 2, 3))
    np.testing.assert_allclose(jnp.exp(log_p).sum(), 1, rtol=1e-5)
