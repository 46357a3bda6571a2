"""The PyTorch peers (benchmarks/torch_peer.py) compute what our models compute."""

import re

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import random_variables, tiny_config

import hfsgm_jax
from hfsgm_jax.data import load_dataset
from hfsgm_jax.models import base, build_model
from hfsgm_jax.objectives import OBJECTIVES
from hfsgm_jax.trace import Plan, Sets

torch = pytest.importorskip("torch", reason="the peer needs PyTorch: pip install 'hfsgm_jax[torch]'")

from benchmarks import torch_peer, torch_statistician  # noqa: E402

ROWS, NUM = 4, 3
# float32 of the same sums in another order, through the layers: relative to the largest value of each array. Batch
# normalisation of the few numbers there are here divides by small variances.
TOLERANCE = {"scha_vae": 5e-6, "ns": 5e-5, "cns": 5e-5}
SCHA_VAE = [("/Conv_0|/Dense_0", ""), ("pool/lag", "pool"), ("nodes_", "nodes/"), ("value_bias", "value/bias")]
STATISTICIAN = [  # our names, and the peer's
    (r"Conv_(\d)/Conv_0|Dense_(\d)", r"\1\2/layer"),
    (r"BatchNorm_(\d)/BatchNorm_0", r"\1/norm"),
    (r"encoder/(?:ConvStack_0/|(Linear)_0/0)", lambda found: "features" if found[1] else "encoder/"),
    (r"decoder/ConvStack_(\d)/(\d)", lambda found: f"decoder/{3 * int(found[1]) + int(found[2])}"),
    (r"decoder/Upsample2_(\d)/0", lambda found: f"decoder/{3 * int(found[1]) + 2}"),
    (r"decoder/(?=grid|pixels)|nodes_0/(?=q_pool)", ""),
    (r"nodes_0/q_head/Head_0/0", "head"),
    (r"nodes_0/q_head/(?:Linear_(\d)/0|ResidualNet_0/(\d))", r"after_pool/\1\2"),
    (r"nodes_(\d)", lambda found: f"nodes/{int(found[1]) - 1}"),
    (r"([pq]_head)/0", r"\1"),
    (r"q_merge/input0", "q_features"),
    (r"decoder/merge/condition|(?<=[pq]_)merge/condition", "from_c"),
    (r"decoder/merge/input0|(?<=[pq]_)merge/input[01]", "from_z"),
    (r"q_pool/lag", "pool"),
    (r"value_bias", "value/bias"),
    (r"scale$", "weight"),
]
SIDE = torch_statistician.GRID


def peer_config(name="scha_vae", aggregate="lag"):
    config = tiny_config()
    if name != "scha_vae":
        config.model = hfsgm_jax.default_config(name).model
        config.model.update(layers=3, blocks=2, encoder_width=4)
    else:
        config.model.update(patch=1, encoder="32-1,4-1,1-1", latents="4-2,1-1", decoder="32-1,4-1")
    config.model.update(width=16, heads=4, c_channels=3, z_channels=2, aggregate=aggregate)
    return config


def as_torch(name, value, names, like):
    """Our name and array -> PyTorch's, of the shapes of ``like``: kernels [.., in, out] become [out, in, h, w]."""
    peers = name
    for pattern, new in names:
        peers = re.sub(pattern, new, peers)
    value = torch.tensor(np.asarray(value))
    if name.endswith(("/key", "/value")):  # [in, heads, out of a head]
        peers, value = f"{peers}/kernel", value.flatten(1)
    peers = peers.replace("kernel", "weight").replace("/", ".")
    shape = like[peers].shape
    if "Upsample2" in name and value.ndim == 2:  # [in, h, w, out]
        value = value.unflatten(1, (2, 2, -1)).permute(0, 3, 1, 2)
    elif peers == "features.layer.weight" and len(shape) == 2:  # from [h, w, in]
        value = value.unflatten(0, (SIDE, SIDE, -1)).permute(3, 2, 0, 1)
    elif peers.startswith("grid") and len(like["grid.weight"].shape) == 2:  # to [h, w, out]
        value = value.unflatten(-1, (SIDE, SIDE, -1)).movedim(-1, -3)
        value = value.flatten() if name.endswith("bias") else value.flatten(1).T
    elif value.ndim == 4:
        value = value.permute(3, 2, 0, 1)
    elif value.ndim == 2:
        value = value.T
    return peers, value.reshape(shape)


def to_torch(x):
    """``[B, N or 1, (h, w,) C]`` -> ``[B*N or B, C, (h, w)]``."""
    return torch.tensor(np.asarray(x)).flatten(0, 1).movedim(-1, 1)


def assert_close(ours, peer, tolerance, what):
    ours, peer = np.asarray(ours), peer.detach().numpy()
    np.testing.assert_allclose(peer, ours, rtol=0, atol=tolerance * np.abs(ours).max(), err_msg=what)


@pytest.mark.parametrize(("name", "aggregate"), [("scha_vae", "lag"), ("ns", "mean"), ("ns", "lag"), ("cns", "lag")])
def test_peer_gives_the_same_latents_and_loss(monkeypatch, name, aggregate):
    config = peer_config(name, aggregate)
    torch_peer.check(config)
    model = build_model(config.model, (28, 28, 1))
    variables = random_variables(model, scale=0.3)
    rng = np.random.default_rng(3)
    images = jnp.asarray(rng.integers(0, 2, (ROWS, NUM, 28, 28, 1)), jnp.float32)
    sets = Sets.of(images)
    slots = {"image": NUM, "set": 1}
    noises = [rng.normal(size=(ROWS, slots[n.plate], *n.event_shape)).astype(np.float32) for n in model.nodes]
    monkeypatch.setattr(base, "standard_noise", lambda *_: noises)
    run = lambda *args: model.apply(*args, Plan(train=True), rngs={"sample": jax.random.key(0)}, mutable="batch_stats")
    with jax.default_matmul_precision("highest"):
        trace, _ = jax.jit(run)(variables, sets)
    sums = OBJECTIVES["ns"].sums(trace, sets, alpha=0.5)

    peer = torch_peer.PEERS[name][0](config.model, (28, 28, 1))
    params = flax.traverse_util.flatten_dict(variables["params"], sep="/")
    names, like = SCHA_VAE if name == "scha_vae" else STATISTICIAN, dict(peer.named_parameters())
    ours = dict(as_torch(*param, names, like) for param in params.items())
    assert ours.keys() == like.keys() and len(ours) == len(params)
    peer.load_state_dict(ours, strict=False)  # all but the averages of batch normalisation
    output = peer(torch.tensor(np.asarray(images)).permute(0, 1, 4, 2, 3), [to_torch(x) for x in noises])

    assert len(output.priors) == len(trace.latents) == len(model.nodes)
    for latent, posterior, prior in zip(trace.latents, output.posteriors, output.priors):
        for q, kind, p in ((latent.posterior, "posterior", posterior), (latent.prior, "prior", prior)):
            for ours, peers, part in ((q.loc, p.mean, "mean"), (q.scale, p.std, "std")):
                ours = to_torch(jnp.broadcast_to(ours, (ROWS, slots[latent.plate], *ours.shape[2:])))
                assert_close(ours, peers, TOLERANCE[name], f"{kind} {part} of {latent.label}")
    assert_close(trace.px.log_prob(images), output.log_px, TOLERANCE[name], "log p(x)")
    assert_close(sums["loss"] / sums["count"], output.loss(alpha=0.5), TOLERANCE[name], "loss")


@pytest.mark.parametrize("name", ["scha_vae", "cns"])
def test_a_step_learns(name):
    config = peer_config(name)
    config.optimizer.learning_rate = 1e-2
    step = torch_peer.make_step(config, load_dataset(config.data, "train"), "channels_last", threads=1)
    losses = [step() for _ in range(10)]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def test_peer_refuses_what_it_does_not_cover():
    config = peer_config()
    config.model.patch = 4
    with pytest.raises(ValueError, match="needs model.patch=1$"):
        torch_peer.check(config)
    config.model = hfsgm_jax.default_config("hfsgm").model
    with pytest.raises(ValueError, match="no PyTorch peer"):
        torch_peer.check(config)
