"""Models of ours and their training step in PyTorch, which `torch_turns` times ours against.

Written as is usual in PyTorch: NCHW maps, the images of all sets in one batch axis, 1x1 layers of maps as convolutions,
attention by `scaled_dot_product_attention`. Sets are whole: every image is observed, context and target.
tests/test_torch_peer.py compares them with ours. Never imported by the package.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.torch_scha_vae import ScaVae
from benchmarks.torch_statistician import Statistician
from hfsgm_jax.config import flatten
from hfsgm_jax.errors import ConfigError

COVERED = """model.likelihood=bernoulli model.pixelcnn_layers=0 model.prior_sees_images=False objective.name=ns
optimizer.name=adam optimizer.clip=norm optimizer.accumulate=1 data.binarize=dynamic train.steps_per_dispatch=1
data.flip=False data.rotate=0|0.0 data.affine=0|0.0 data.dihedral=False"""
OF_STATISTICIAN = f"{COVERED} model.aggregate=mean|lag model.condition=bias model.a_channels=0"
OF_SCHA_VAE = """model.aggregate=lag model.patch=1 model.border=pad model.decoder_context=full model.std=softplus"""
PEERS = {  # name of the model: its peer, and the config that it is the same for
    "scha_vae": (ScaVae, f"{COVERED} {OF_SCHA_VAE}"),
    "ns": (Statistician, OF_STATISTICIAN),
    "cns": (Statistician, OF_STATISTICIAN),
}


def check(config: Any) -> None:
    """Raises a ConfigError where the peer would compute something else than ours."""
    found = {key: str(value) for key, value in flatten(config).items()}
    if found["model.name"] not in PEERS:
        raise ConfigError(f"model.name={config.model.name!r} has no PyTorch peer: it has to be one of {list(PEERS)}")
    needed = [text.split("=") for text in PEERS[config.model.name][1].split()]
    wrong = [f"{key}={values}" for key, values in needed if found.get(key) not in values.split("|")]
    wrong += ["an integer data.set_size"] * (not found["data.set_size"].isdecimal())
    if wrong:
        raise ConfigError(f"the PyTorch peer of this config would be another model: it needs {', '.join(wrong)}")


def make_step(config: Any, dataset: Any, variant: str, threads: int) -> Callable[[], float]:
    """A function that does one optimizer step, waits for it and returns its loss.

    A batch has different images of each class, every pixel drawn anew from its grey level.

    Args:
      dataset: an `hfsgm_jax.Dataset` of classes of one size.
      variant: see `torch_turns.torch_peer`.
    """
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU, as XLA has it; no difference on a CPU
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layout = torch.channels_last if "channels_last" in variant else torch.contiguous_format
    model = PEERS[config.model.name][0](config.model, dataset.image_shape).to(device, memory_format=layout)
    run = torch.compile(model) if "compile" in variant else model
    c, rows, num, per_class = config.optimizer, config.data.sets_per_batch, config.data.set_size, int(dataset.size[0])
    optimizer = torch.optim.Adam(model.parameters(), c.learning_rate, weight_decay=c.weight_decay, fused=True)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(c.ema)) if c.ema else None
    table = torch.from_numpy(dataset.images).to(device).permute(0, 3, 1, 2).unflatten(0, (-1, per_class))

    def step() -> float:
        classes = torch.randint(len(table), (rows, 1), device=device)
        members = torch.rand(rows, per_class, device=device).argsort(1)[:, :num]
        batch = torch.bernoulli(table[classes, members].float() / 255).flatten(0, 1).contiguous(memory_format=layout)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.model.dtype == "bfloat16"):
            output = run(batch.unflatten(0, (rows, num)))
        loss = output.loss(config.objective.alpha)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), c.clip_at, foreach=True)
        optimizer.step()
        if averaged is not None:
            averaged.update_parameters(model)
        return loss.item()  # as ours, a step is waited for

    return step
