"""The PyTorch peer (benchmarks/torch_peer.py) computes what our SCHA-VAE computes."""

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import random_variables, tiny_config

from hfsgm_jax.models import base, build_model
from hfsgm_jax.objectives import OBJECTIVES
from hfsgm_jax.trace import Plan, Sets

torch = pytest.importorskip("torch", reason="the peer needs PyTorch: pip install 'hfsgm_jax[torch]'")

from benchmarks import torch_peer  # noqa: E402

ROWS, NUM = 2, 3
# float32 of the same sums in another order, through the layers: relative to the largest value of each array.
TOLERANCE = 5e-6
NAMES = {"/Conv_0": "", "/Dense_0": "", "pool/lag": "pool", "nodes_": "nodes/", "value_bias": "value/bias", "/": "."}


def peer_config():
    config = tiny_config()
    config.model.update(width=16, heads=4, c_channels=3, z_channels=2, patch=1, aggregate="lag")
    config.model.update(encoder="32-1,4-1,1-1", latents="4-2,1-1", decoder="32-1,4-1")
    return config


def as_torch(name, value):
    """Our name and array -> PyTorch's: kernels [.., in, out] become [out, in, h, w]."""
    for ours, peers in NAMES.items():
        name = name.replace(ours, peers)
    value = torch.tensor(np.asarray(value))
    if name.startswith("start"):
        return name, value.reshape(1, -1, 1, 1)
    if name.endswith(("pool.key", "pool.value")):  # [in, heads, out of a head]
        name, value = f"{name}.kernel", value.flatten(1)
    if name.endswith("kernel"):
        value = value.permute(3, 2, 0, 1) if value.ndim == 4 else value.T[:, :, None, None]
    return name.replace("kernel", "weight"), value


def to_torch(x):
    """``[B, N or 1, h, w, C]`` -> ``[B*N or B, C, h, w]``."""
    return torch.tensor(np.asarray(x)).flatten(0, 1).permute(0, 3, 1, 2)


def assert_close(ours, peer, what):
    ours, peer = np.asarray(ours), peer.detach().numpy()
    np.testing.assert_allclose(peer, ours, rtol=0, atol=TOLERANCE * np.abs(ours).max(), err_msg=what)


def test_peer_gives_the_same_latents_and_loss(monkeypatch):
    config = peer_config()
    torch_peer.check(config)
    model = build_model(config.model, (28, 28, 1))
    variables = random_variables(model, scale=0.3)
    rng = np.random.default_rng(3)
    images = jnp.asarray(rng.integers(0, 2, (ROWS, NUM, 28, 28, 1)), jnp.float32)
    sets = Sets.of(images)
    slots = {"image": NUM, "set": 1}
    noises = [rng.normal(size=(ROWS, slots[n.plate], *n.event_shape)).astype(np.float32) for n in model.nodes]
    monkeypatch.setattr(base, "standard_noise", lambda *_: noises)
    with jax.default_matmul_precision("highest"):
        trace = jax.jit(lambda *args: model.apply(*args, Plan(), rngs={"sample": jax.random.key(0)}))(variables, sets)
    sums = OBJECTIVES["ns"].sums(trace, sets, alpha=0.5)

    peer = torch_peer.ScaVae(config.model, (28, 28, 1))
    params = flax.traverse_util.flatten_dict(variables["params"], sep="/")
    peer.load_state_dict(dict(as_torch(name, value) for name, value in params.items()))
    output = peer(torch.tensor(np.asarray(images)).permute(0, 1, 4, 2, 3), [to_torch(x) for x in noises])

    assert len(output.priors) == len(trace.latents) == 6
    for latent, posterior, prior in zip(trace.latents, output.posteriors, output.priors):
        for q, name, p in ((latent.posterior, "posterior", posterior), (latent.prior, "prior", prior)):
            for ours, peers, part in ((q.loc, p.mean, "mean"), (q.scale, p.std, "std")):
                ours = to_torch(jnp.broadcast_to(ours, (ROWS, slots[latent.plate], *ours.shape[2:])))
                assert_close(ours, peers, f"{name} {part} of {latent.label}")
    assert_close(trace.px.log_prob(images), output.log_px, "log p(x)")
    assert_close(sums["loss"] / sums["count"], output.loss(alpha=0.5), "loss")


def test_a_step_learns():
    from hfsgm_jax.data import load_dataset

    config = peer_config()
    step = torch_peer.make_step(config, load_dataset(config.data, "train"), "channels_last", threads=1)
    losses = [step() for _ in range(10)]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def test_peer_refuses_what_it_does_not_cover():
    config = peer_config()
    config.model.patch = 4
    with pytest.raises(ValueError, match="needs model.patch=1$"):
        torch_peer.check(config)
