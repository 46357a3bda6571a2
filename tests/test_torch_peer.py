"""The PyTorch peer (benchmarks/torch_model.py) computes what our SCHA-VAE computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import random_variables, tiny_config

from hfsgm_jax import objectives
from hfsgm_jax.models import base, build_model
from hfsgm_jax.trace import Plan, Sets

torch = pytest.importorskip("torch", reason="the peer needs PyTorch: pip install 'hfsgm_jax[torch]'")

from benchmarks.torch_model import ScaVae, loss_of  # noqa: E402

ROWS, NUM = 2, 3
# float32 of the same sums in another order, through the layers: relative to the largest value of each array.
TOLERANCE = 5e-6
KINDS = {
    "mean": dict(aggregate="mean"),
    "max": dict(aggregate="max"),
    "lag": dict(aggregate="lag"),
    "lag_eq3": dict(aggregate="lag", prior_sees_images=True),
}


def model_config(**kind):
    config = tiny_config().model
    config.update(width=16, heads=4, c_channels=3, z_channels=2, patch=1)
    config.update(encoder="32-1,4-1,1-1", latents="4-2,1-1", decoder="32-1,4-1", **kind)
    return config


def to_torch(x):
    """``[B, N or 1, h, w, C]`` -> ``[B*N or B, C, h, w]``."""
    return torch.tensor(np.asarray(x)).flatten(0, 1).permute(0, 3, 1, 2)


def assert_close(ours, peer, what):
    ours, peer = np.asarray(ours), peer.detach().numpy()
    np.testing.assert_allclose(peer, ours, rtol=0, atol=TOLERANCE * np.abs(ours).max(), err_msg=what)


@pytest.mark.parametrize("kind", KINDS)
def test_peer_gives_the_same_latents_and_log_px(kind, monkeypatch):
    config = model_config(**KINDS[kind])
    model = build_model(config, (28, 28, 1))
    variables = random_variables(model, scale=0.3)
    rng = np.random.default_rng(3)
    images = jnp.asarray(rng.integers(0, 2, (ROWS, NUM, 28, 28, 1)), jnp.float32)
    sets = Sets.of(images)
    slots = {"image": NUM, "set": 1}
    noises = [rng.normal(size=(ROWS, slots[n.plate], *n.event_shape)).astype(np.float32) for n in model.nodes]
    monkeypatch.setattr(base, "standard_noise", lambda key, sets, nodes: noises)
    with jax.default_matmul_precision("highest"):
        trace = jax.jit(lambda *args: model.apply(*args, Plan(), rngs={"sample": jax.random.key(0)}))(variables, sets)
    sums = objectives.weighted_sums(trace, sets, alpha=0.5)

    peer = ScaVae(config, (28, 28, 1))
    peer.load_from(jax.tree.map(np.asarray, variables["params"]))
    output = peer(torch.tensor(np.asarray(images)).permute(0, 1, 4, 2, 3), [to_torch(x) for x in noises])

    assert len(output.priors) == len(trace.latents) == 6
    for latent, posterior, prior in zip(trace.latents, output.posteriors, output.priors):
        for q, name, p in ((latent.posterior, "posterior", posterior), (latent.prior, "prior", prior)):
            for ours, peers, part in ((q.loc, p.mean, "mean"), (q.scale, p.std, "std")):
                ours = to_torch(jnp.broadcast_to(ours, (ROWS, slots[latent.plate], *ours.shape[2:])))
                assert_close(ours, peers, f"{name} {part} of {latent.label}")
    assert_close(trace.px.log_prob(images), output.log_px, "log p(x)")
    assert_close(sums["loss"] / sums["count"], loss_of(output, alpha=0.5), "loss")


def test_peer_refuses_what_it_does_not_cover():
    config = model_config()
    config.patch = 4
    with pytest.raises(ValueError, match="model.patch=4 .needed: 1"):
        ScaVae(config, (28, 28, 1))


def test_peer_refuses_parameters_of_another_model():
    peer = ScaVae(model_config(), (28, 28, 1))
    variables = random_variables(build_model(model_config(width=8), (28, 28, 1)))
    with pytest.raises(ValueError, match="parameters of another model: .* do not match"):
        peer.load_from(jax.tree.map(np.asarray, variables["params"]))
