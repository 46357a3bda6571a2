"""Compares our models with the reference implementation on its golden values, and writes docs/parity.md.

python -m scripts.parity

Parameters, images and noise follow from names by a rule of exact arithmetic, the same bits on every machine.
"""

import json
import math
import zlib
from collections.abc import Sequence
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from examples.reference import from_reference
from hfsgm_jax import objectives
from hfsgm_jax.evaluation.tables import Table, markdown
from hfsgm_jax.models import base
from hfsgm_jax.trace import Plan, Sets, Trace
from scripts import readme
from scripts.machine import ROOT

GOLDEN, RESULTS = ROOT / "tests" / "golden", ROOT / "docs" / "parity.json"
TOLERANCE = 5e-6  # of |ours - theirs| / (1 + |theirs|) in float32
ROWS, SLOTS, SIZE = 2, 3, 28

_VECTORS = dict(width=16, c_channels=4, z_channels=6)
_MAPS = dict(width=16, c_channels=2, z_channels=3, encoder_width=8)
_SCHA = dict(name="scha_vae", width=16, c_channels=2, z_channels=3)
_SCHA |= dict(encoder="32-2,16-1,8-1,4-1,2-1,1-1", latents="8-1,4-2,2-1,1-1", decoder="32-1,16-1,8-2")
_LAG = dict(aggregate="lag")
# Golden file -> their class, the keywords that make ours the same model, and sizes.
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "vae": ("VAE", dict(name="vae"), dict(width=16, z_channels=6)),
    "ns": ("NS", dict(name="ns"), _VECTORS),
    "ns_lag": ("TNS", dict(name="ns") | _LAG, _VECTORS),
    "cns": ("CNS", dict(name="cns"), _MAPS),
    "cns_lag": ("CTNS", dict(name="cns") | _LAG, _MAPS),
    "hfsgm": ("HFSGM", dict(name="hfsgm"), _VECTORS),
    "hfsgm_lag": ("THFSGM", dict(name="hfsgm", condition="film") | _LAG, _VECTORS),
    "chfsgm": ("CHFSGM", dict(name="chfsgm"), _MAPS),
    "chfsgm_lag": ("CTHFSGM", dict(name="chfsgm") | _LAG, _MAPS),
    "scha_vae_mean": ("CHFSGM_MULTISCALE", dict(name="scha_vae"), _SCHA),
    "scha_vae_max": ("CHFSGM_MULTISCALE", dict(name="scha_vae", aggregate="max"), _SCHA),
    "scha_vae_lag": ("CHFSGM_MULTISCALE", dict(name="scha_vae") | _LAG, _SCHA),
}


def parameter(name: str, shape: Sequence[int]) -> np.ndarray:
    """A parameter or buffer of theirs: uniform numbers of mean 0, scaled by what it is."""
    spread = math.sqrt(12.0) * (_uniform(f"parameter/{name}", shape) - 0.5)  # variance 1
    kind = name.rpartition(".")[2]
    if kind in ("bias", "running_mean"):
        value = 0.2 * spread
    elif kind == "running_var" or (kind == "weight" and len(shape) == 1):
        value = 1.0 + 0.25 * spread
    elif kind == "weight":
        fan_in = shape[0] if tuple(shape[2:]) == (2, 2) else math.prod(shape[1:])
        value = _gain(name) * spread / math.sqrt(fan_in)
    else:
        value = spread  # the starts of SCHA-VAE's paths
    return value.astype(np.float32)


def _gain(name: str) -> float:
    gains = {0.3: ("linear_params", "c_proj", "z_proj", ".resnet.c4"), 0.7: ("conv_final",)}
    gains |= {1.3: ("conv_layers", "enc_blocks", ".enc.")}
    return next((gain for gain, parts in gains.items() if any(part in name for part in parts)), 1.0)


def images() -> np.ndarray:
    """``[2, 3, 28, 28, 1]``, 0 or 1: squares of the set, some flipped per image, then some pixels."""
    blocks = _uniform("images/sets", (ROWS, 1, 1, SIZE // 4, SIZE // 4)) < 0.35
    blocks = blocks ^ (_uniform("images/squares", (ROWS, SLOTS, 1, SIZE // 4, SIZE // 4)) < 0.2)
    pixels = _uniform("images/pixels", (ROWS, SLOTS, 1, SIZE, SIZE)) < 0.1
    return np.moveaxis(blocks.repeat(4, -2).repeat(4, -1) ^ pixels, 2, -1).astype(np.float32)


def noise(index: int, shape: Sequence[int]) -> np.ndarray:
    """Of latent ``index`` in traversal order, channels first: sums of twelve uniform numbers, mean 0, variance 1."""
    total = np.full(tuple(shape), -6.0)
    for draw in _uniform(f"noise/{index}", (12, *shape)):
        total += draw
    return total.astype(np.float32)


def _uniform(key: str, shape: Sequence[int]) -> np.ndarray:
    return np.random.RandomState(zlib.crc32(key.encode())).random_sample(tuple(shape))


def load(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """``(meta, arrays)`` of a golden file (tests/golden/README.md)."""
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    return json.loads(str(arrays.pop("meta"))), arrays


def inputs(meta: dict[str, Any]) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Their ``state_dict``, and the noise of every latent, ``[2, 3 or 1, (h, w,) channels]``."""
    state = {key: parameter(key, shape) for key, shape in meta["parameters"]}
    draws = [noise(i, shape) for i, (_, shape) in enumerate(meta["latents"])]
    return state, [np.moveaxis(x.reshape(ROWS, -1, *x.shape[1:]), 2, -1) for x in draws]


def ours(name: str, meta: dict[str, Any]) -> dict[str, np.ndarray]:
    """Results of our model, with the names and shapes of a golden file."""
    state, draws = inputs(meta)
    _, keywords, sizes = MODELS[name]
    model, variables = from_reference(state, keywords | sizes)
    sets = Sets.of(jnp.asarray(images()))

    @jax.jit
    def run(variables):
        trace = model.apply(variables, sets, Plan(), rngs={"sample": jax.random.key(0)})
        return _arrays(trace, sets)

    with mock.patch.object(base, "standard_noise", lambda *_: draws), jax.default_matmul_precision("highest"):
        return {key: np.asarray(value) for key, value in run(variables).items()}


def _arrays(trace: Trace, sets: Sets) -> dict[str, jax.Array]:
    pixels = trace.px.mean()
    sums = objectives.loss_sums(trace, sets)
    out = {f"mean_{key}": sums[key] / sums["count"] for key in ("log_px", "kl_c", "kl_z")}
    out["nelbo"] = sums["nelbo"] / sums["count"]
    out |= dict(probabilities=pixels.reshape(-1)[::25], probabilities_sum=pixels.sum((2, 3, 4)))
    out |= dict(log_px=trace.px.log_prob(sets.images), log_weight=objectives.log_weight(trace, sets))
    out["loss_alpha_2"] = objectives.loss_sums(trace, sets, alpha=2.0)["loss"] / sums["count"]
    for latent in trace.latents:
        out[f"{latent.label}.kl"] = objectives.latent_kl(latent)
        for part in ("posterior", "prior"):
            normal = getattr(latent, part)
            for key, x in (("mean", normal.loc), ("std", normal.scale)):
                out[f"{latent.label}.{part}.{key}"] = jnp.broadcast_to(x, latent.value.shape)
    return out


def differences(name: str) -> dict[str, float]:
    """Largest |ours - theirs| / (1 + |theirs|) of every array of a golden file."""
    meta, theirs = load(name)
    found = ours(name, meta)
    assert found.keys() == theirs.keys() and all(found[key].shape == theirs[key].shape for key in theirs)
    return {key: float((np.abs(found[key] - x) / (1 + np.abs(x))).max()) for key, x in theirs.items()}


def table(results: dict[str, dict[str, Any]]) -> str:
    """The part ``parity`` of docs/parity.md from what docs/parity.json holds."""
    keywords = lambda name: ", ".join(f"{key}={value!r}" for key, value in MODELS[name][1].items())
    rows = [
        [f"`{name}`", f"`{MODELS[name][0]}`", f"`{keywords(name)}`", f"{row['difference']:.1e}", f"`{row['array']}`"]
        for name, row in results.items()
    ]
    return markdown(Table(["golden file", "their class", "our keywords", "largest difference", "of"], rows))


def main() -> None:
    results = {}
    for name in MODELS:
        found = differences(name)
        array = max(found, key=found.get)
        results[name] = dict(difference=float(f"{found[array]:.1e}"), array=array)
        print(name, results[name], flush=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    readme.write("parity", table(results))


if __name__ == "__main__":
    main()
