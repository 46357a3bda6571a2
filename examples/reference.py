"""Models with the parameters that the SCHA-VAE authors' PyTorch code trained (docs/parity.md).

Two tables of rules rewrite the path of one of our parameters into the name of theirs. Their layers have a bias also
before a batch normalisation; it moves into the running mean.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.traverse_util
import numpy as np

from hfsgm_jax.errors import CheckpointError, check_choice
from hfsgm_jax.models import SetModel, abstract_variables, build_model
from hfsgm_jax.trace import IMAGE

# Name of a model -> keywords that make ours compute what theirs does. Of their pixels only Bernoulli ones are compared.
SWITCHES = dict.fromkeys(["vae", "bns", "ns", "cns", "hfsgm", "chfsgm"], dict(likelihood="bernoulli"))
SWITCHES["scha_vae"] = dict(likelihood="bernoulli", border="nearest", decoder_context="top_left", std="exp")

# What their code registers, but either does not use or cancels (a bias of LAG's keys, under the softmax).
UNUSED = r"_tracked$|key\.bias$|_z\.\d+\.linear_(c|z|gamma)\.|\.linear_cs\.|^prior_c\.\d+\.aggregation_module"
UNUSED_SCHA = r"|^latent_c\.0\.z_proj|^(proj|statistic|posterior_[cz]|prior_[cz]|observation_decoder)\."

Rules = tuple[tuple[str, str | Callable[[re.Match], str]], ...]  # regular expression -> replacement, one after another
_LEAVES: Rules = (
    (r"/(kernel|scale)$", "/weight"),
    (r"/(mean|var)$", r"/running_\1"),
    (r"/(key|value)$", r"/\1/weight"),
    (r"/value_bias$", "/value/bias"),
    (r"/", "."),
)
_STATISTICIAN: Rules = (
    (r"/(BatchNorm|Conv)_0(?=/\w+$)", ""),  # the layer inside one of ours
    (r"Upsample2_(\d)/(\w+)_0", r"ConvStack_\1/\2_2"),
    (r"ConvStack_(\d)/Batch\w+_(\d)", lambda m: f"bn_layers/{3 * int(m[1]) + int(m[2])}"),
    (r"ConvStack_(\d)/\w+_(\d)", lambda m: f"conv_layers/{3 * int(m[1]) + int(m[2])}"),
    (r"^encoder/Linear_0/Dense_0", "proj/fc"),
    (r"^encoder/Linear_0/BatchNorm_0", "proj/bn"),
    (r"^decoder/merge/input0", "decoder/linear_zs"),
    (r"^decoder/merge/condition", "decoder/linear_cs"),
    (r"^decoder/pixels", "decoder/conv_final"),
    (r"^decoder", "observation_decoder"),
    (r"(^prior_z.*/)merge/input0", r"\1linear_z"),
    (r"merge/input0", "linear_h"),
    (r"merge/input1", "linear_z"),
    (r"merge/gamma", "linear_gamma"),
    (r"merge/condition", "linear_c"),
    (r"/from_", "/linear_"),
    (r"pool/lag", "aggregation_module"),
    (r"(?<=/)(net|ResidualNet_0)/BatchNorm_(\d+)", r"residual_block/block/\2/1"),
    (r"(?<=/)(net|ResidualNet_0)/\w+_(\d+)", r"residual_block/block/\2/0"),
    (r"Linear_(\d)/Dense_0", r"linear_layers/\1"),
    (r"Linear_(\d)/BatchNorm_0", r"bn_layers/\1"),
    (r"(?<=/)(head|Head_0)/Dense_0", "linear_params"),
    (r"(?<=/)(head|Head_0)/BatchNorm_0", "bn_params"),
    (r"(?<=/)head", "postpool"),
)
_SCHA: Rules = (
    (r"/(Conv|Dense)_0", ""),
    (r"^start/", ""),
    (r"^encoder/stem", "encoder/in_conv"),
    (r"^decoder/from_(.)", r"decoder/\1_conv"),
    (r"^decoder/pixels", "decoder/conv_final"),
    (r"^decoder", "observation_model"),
    (r"posterior_block", "enc"),
    (r"prior_block", "prior"),
    (r"residual_block", "resnet"),
    (r"(latent_(.).*)add_value", r"\1\2_proj"),  # c_proj of a c, z_proj of a z
    (r"(?<=/)from_(.)", r"\1_proj"),
    (r"pool/lag", "att"),
    (r"/reduce/", "/c1/"),
    (r"/conv(\d)/", lambda m: f"/c{int(m[1]) + 1}/"),
    (r"/expand/", "/c4/"),
)


def from_reference(
    state_dict: Mapping[str, Any], config: Mapping[str, Any], image_shape: tuple[int, int, int] = (28, 28, 1)
) -> tuple[SetModel, dict[str, Any]]:
    """The model that computes what the authors' does, and its variables: what `FewShotModel` takes.

    Args:
      state_dict: their names (``encoder.in_conv.weight``) -> arrays.
      config: ``name`` and keywords of the model (docs/parity.md names their classes); those that decide between
        their form of a model and ours (`SWITCHES`) are set to theirs.
      image_shape: (H, W, C).

    Raises:
      CheckpointError: parameters of another model than the config says: missing, left over, or of other sizes.
      ConfigError: a model that their code does not have, or impossible keywords.
    """
    check_choice("model.name", config.get("name"), SWITCHES)
    name = config["name"]
    model = build_model({**config, **SWITCHES[name]}, image_shape)
    rename = _renamer(model, name == "scha_vae")
    theirs = _their_arrays(state_dict, model)
    ours = flax.traverse_util.flatten_dict(dict(abstract_variables(model)), sep="/")
    used = set()

    def take(path: str) -> np.ndarray:
        used.add(wanted := rename(path))
        if wanted not in theirs:
            raise CheckpointError(f"the state_dict has no {wanted}, which the {name} of this config needs for {path}")
        return theirs[wanted]

    for path, leaf in ours.items():
        value = _our_layout(take(path))
        bias, is_mean = re.subn(r"^batch_stats/(.*)BatchNorm_(\d+)/BatchNorm_0/mean$", r"params/\1Dense_\2/bias", path)
        if is_mean and bias not in ours:
            value = value - take(bias)
        if value.size != leaf.size:
            raise CheckpointError(f"{rename(path)} has {value.size} numbers, and {path} of this config {leaf.size}")
        ours[path] = value.reshape(leaf.shape)
    unused = UNUSED + (UNUSED_SCHA if name == "scha_vae" else "")
    if left := sorted(key for key in theirs.keys() - used if not re.search(unused, key)):
        raise CheckpointError(f"the {name} of this config has no place for {len(left)} of the parameters: {left[:5]}")
    return model, flax.traverse_util.unflatten_dict(ours, sep="/")


def _their_arrays(state_dict: Mapping[str, Any], model: SetModel) -> dict[str, np.ndarray]:
    """Their parameters without the names of wrapped layers, flat maps channels last, gamma and beta of FiLM apart."""
    out = {re.sub(r"\.conv\b", "", name): np.asarray(value, np.float32) for name, value in state_dict.items()}
    if "proj.fc.weight" in out and out["proj.fc.weight"].ndim == 2:
        out["proj.fc.weight"] = _channels_last(out["proj.fc.weight"].T).T
        for name in ("observation_decoder.linear_initial.weight", "observation_decoder.linear_initial.bias"):
            if name in out:
                out[name] = _channels_last(out[name])
    if dict(model.made_of).get("condition") == "film":  # theirs is gamma * rest + beta, ours (1 + gamma) * rest + beta
        for name in [name for name in out if re.search(r"_z\.\d+\.linear_c\.", name)]:
            gamma, out[name] = np.split(out[name], 2)
            out[name.replace("linear_c", "linear_gamma")] = gamma - name.endswith("bias")
    return out


def _channels_last(x: np.ndarray) -> np.ndarray:
    """``[C * 16, ...]`` -> ``[16 * C, ...]``: the first axis is a flat 4x4 map."""
    return x.reshape(-1, 16, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape)


def _our_layout(x: np.ndarray) -> np.ndarray:
    """PyTorch's kernels [out, in, h, w] -> [h, w, in, out]; transposed 2x2 ones [in, out, 2, 2] -> [in, 2, 2, out]."""
    if x.shape[2:] == (2, 2):
        return x.transpose(0, 2, 3, 1)
    return x.transpose(*range(2, x.ndim), 1, 0) if x.ndim > 1 else x


def _renamer(model: SetModel, scha: bool) -> Callable[[str], str]:
    """A function from our path (``params/nodes_0/q_head/...``) to their name."""
    top = max(node.layer for node in model.nodes if node.plate == IMAGE)
    several = len(model.shared_nodes) > 1  # their lists then start at the lowest layer, and else at the top

    def node(match: re.Match) -> str:
        it = model.nodes[int(match[1])]
        kind = "z" if it.plate == IMAGE else "c"
        if scha:
            return f"latent_{kind}/{top - it.layer}/"
        if kind == "c" and it.top:
            return "statistic/"
        index = it.layer - 1 if several else top - it.layer
        if match[2] == "q_":
            return f"posterior_{kind}/{index}/"
        return f"prior_{kind}/{index - (not model.shared_nodes)}/"  # of a VAE's top layer there is none

    def block(match: re.Match) -> str:
        levels = (model.encoder if match[1] == "encoder" else model.decoder).levels
        blocks = [f"{side}_{i}" for side, depth in levels for i in range(depth)]
        return f"{match[1]}/enc_blocks/{blocks.index(match[2])}"

    own: Rules = ((r"^(params|batch_stats)/", ""), (r"^nodes_(\d+)/([qp]_)?", node))
    if scha:
        rules = (*own, (r"^(\w+)/r(\d+_\d+)", block), *_SCHA, *_LEAVES)
    else:
        rules = (*own, (r"^decoder/grid", f"decoder/{'post_proj' if model.decoder.spatial else 'linear_initial'}"))
        rules += (*_STATISTICIAN, *_LEAVES)

    def rename(path: str) -> str:
        for pattern, replacement in rules:
            path = re.sub(pattern, replacement, path)
        return path

    return rename
