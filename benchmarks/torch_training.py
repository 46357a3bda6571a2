"""The training step of the PyTorch peer: batches from memory, Adam, clipping, averaged parameters."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.torch_model import ScaVae, loss_of, uncovered


def check(config: Any) -> None:
    """Raises a ValueError where the peer would do another step than ours."""
    needed = {"objective.name": "ns", "optimizer.name": "adam", "optimizer.accumulate": 1, "data.binarize": "dynamic"}
    needed |= {"train.steps_per_dispatch": 1}
    wrong = []
    for key, value in needed.items():
        section, name = key.split(".")
        if config[section][name] != value:
            wrong.append(f"{key}={config[section][name]!r} (needed: {value!r})")
    if not isinstance(config.data.set_size, int):
        wrong.append(f"data.set_size={config.data.set_size!r} (needed: an integer)")
    wrong += uncovered(config.model)
    if wrong:
        raise ValueError("the PyTorch peer does not cover " + ", ".join(wrong))


def make_step(config: Any, images: np.ndarray, sizes: np.ndarray, variant: str) -> Callable[[], None]:
    """A function that does one optimizer step and waits for it.

    Args:
      config: resolved.
      images: uint8 ``[n, H, W, C]``, class after class.
      sizes: images of each class, all the same.
      variant: ``eager``, or any of ``compile``, ``channels_last``, ``cudagraphs`` joined by underscores.

    Raises:
      ValueError: the peer does not cover this config.
    """
    check(config)
    if sizes.min() != sizes.max():
        raise ValueError(f"classes of {sizes.min()} to {sizes.max()} images: the PyTorch peer needs one size")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU, as XLA has it; no difference on a CPU
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    model = ScaVae(config.model, config.image_shape).to(device)
    if "channels_last" in variant:
        model = model.to(memory_format=torch.channels_last)
    draw = make_sampler(config, images, int(sizes[0]), device, "channels_last" in variant)
    mode = "reduce-overhead" if "cudagraphs" in variant else "default"
    run = torch.compile(model, mode=mode) if "compile" in variant else model
    optimizer, after = make_update(config, model)
    bf16 = config.model.dtype == "bfloat16"

    def step() -> None:
        batch = draw()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            output = run(batch)
        loss = loss_of(output, config.objective.alpha)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        clip(model, config.optimizer)
        optimizer.step()
        after()
        loss.item()  # as ours, whose metrics stay on the device, a step is waited for

    return step


def make_sampler(
    config: Any, images: np.ndarray, per_class: int, device: torch.device, channels_last: bool
) -> Callable[[], Tensor]:
    """Draws ``[B, N, C, H, W]``: classes, different members of each, every pixel anew from its grey level."""
    rows, num = config.data.sets_per_batch, config.data.set_size
    table = torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2).unflatten(0, (-1, per_class))

    def draw() -> Tensor:
        classes = torch.randint(len(table), (rows, 1), device=device)
        members = torch.rand(rows, per_class, device=device).argsort(1)[:, :num]
        batch = torch.bernoulli(table[classes, members].float() / 255)
        if channels_last:
            batch = batch.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (rows, num))
        return batch

    return draw


def make_update(config: Any, model: nn.Module) -> tuple[torch.optim.Optimizer, Callable[[], None]]:
    """Adam with L2 in the gradient, and what averages the parameters after it."""
    c = config.optimizer
    optimizer = torch.optim.Adam(
        model.parameters(), c.learning_rate, (c.b1, c.b2), c.eps, weight_decay=c.weight_decay, fused=True
    )
    if not c.ema:
        return optimizer, lambda: None
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(c.ema))
    return optimizer, lambda: averaged.update_parameters(model)


def clip(model: nn.Module, config: Any) -> None:
    """By the global norm, or every element."""
    if config.clip == "norm":
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_at, foreach=True)
    elif config.clip == "value":
        nn.utils.clip_grad_value_(model.parameters(), config.clip_at, foreach=True)
