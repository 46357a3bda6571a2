"""From a config's section ``model`` to a Flax module, with every check before any long work."""

import difflib
from typing import Any

import jax.numpy as jnp

from hfsgm_jax.config import ConfigError
from hfsgm_jax.distributions import likelihood_params
from hfsgm_jax.models import scha_vae, statistician
from hfsgm_jax.models.base import SetModel
from hfsgm_jax.nn.aggregate import AGGREGATORS
from hfsgm_jax.nn.baseline import ConvDecoder, ConvEncoder
from hfsgm_jax.nn.bottleneck import PyramidDecoder, PyramidEncoder, parse_levels
from hfsgm_jax.nn.layers import padded_size

IMAGE_SIZES = (28, 32, 64)
# name -> (latents are maps, set latents as a function of L, image latents as a function of L)
STATISTICIANS = {
    "vae": (False, lambda layers: 0, lambda layers: layers),
    "bns": (False, lambda layers: 1, lambda layers: 1),
    "ns": (False, lambda layers: 1, lambda layers: layers),
    "hfsgm": (False, lambda layers: layers, lambda layers: layers),
    "cns": (True, lambda layers: 1, lambda layers: layers),
    "chfsgm": (True, lambda layers: layers, lambda layers: layers),
}
NAMES = (*STATISTICIANS, "scha_vae")
CHOICES = {
    "name": NAMES,
    "aggregate": AGGREGATORS,
    "condition": ("bias", "film"),
    "likelihood": ("bernoulli", "discretized_normal", "discretized_logistics"),
    "border": ("pad", "nearest"),
    "decoder_context": ("full", "top_left"),
    "dtype": ("float32", "bfloat16"),
}


def _choice(config: Any, key: str) -> None:
    value, valid = config[key], CHOICES[key]
    if value not in valid:
        near = difflib.get_close_matches(str(value), valid, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"model.{key}={value!r} is not one of {', '.join(valid)}{hint}")


def _levels(config: Any, key: str) -> tuple[tuple[int, int], ...]:
    try:
        return parse_levels(config[key])
    except ValueError as error:
        raise ConfigError(f"model.{key}: {error}") from None


def _check_chain(key: str, resolutions: list[int], text: str) -> None:
    """Neighbouring resolutions of a pyramid must divide each other."""
    for high, low in zip(resolutions, resolutions[1:]):
        if high % low:
            raise ConfigError(
                f"model.{key}={text!r}: {low} does not divide {high}, so {high} pixels cannot become {low}"
            )


def _check_pyramid(config: Any, size: int) -> None:
    encoder, latents, decoder = (_levels(config, key) for key in ("encoder", "latents", "decoder"))
    if size % config.patch:
        raise ConfigError(f"model.patch={config.patch} does not divide the {size} pixels the model works on")
    top = size // config.patch
    for key, levels in (("encoder", encoder), ("latents", latents), ("decoder", decoder)):
        _check_chain(key, [r for r, _ in levels], config[key])
    if encoder[0][0] != top:
        raise ConfigError(
            f"model.encoder={config.encoder!r} must start at {top}: images of {size} pixels (28 are padded to 32) "
            f"in patches of {config.patch}"
        )
    missing = [r for r, _ in latents if r not in dict(encoder)]
    if missing:
        raise ConfigError(
            f"model.latents={config.latents!r}: the encoder {config.encoder!r} has no resolution {missing[0]}"
        )
    if decoder[0][0] != top or decoder[-1][0] != latents[0][0]:
        raise ConfigError(
            f"model.decoder={config.decoder!r} must go from {top} down to {latents[0][0]}, "
            "the latents' highest resolution"
        )


def check_model(config: Any, image_shape: tuple[int, int, int]) -> None:
    """Refuses what cannot be built.

    Args:
      config: the section ``model``.
      image_shape: (H, W, C).

    Raises:
      ConfigError: naming the key, the value given and what is needed.
    """
    for key in CHOICES:
        _choice(config, key)
    height, width, channels = image_shape
    if height != width or height not in IMAGE_SIZES or channels not in (1, 3):
        raise ConfigError(
            f"images of {height}x{width}x{channels}: models take square images of {', '.join(map(str, IMAGE_SIZES))} "
            "pixels with 1 or 3 channels (set data.image_size, data.channels)"
        )
    for key in ("width", "c_channels", "z_channels", "layers", "blocks", "heads", "patch"):
        if config[key] < 1:
            raise ConfigError(f"model.{key}={config[key]} must be at least 1")
    if config.aggregate == "lag" and config.width % config.heads:
        raise ConfigError(f"model.heads={config.heads} does not divide model.width={config.width}")
    if config.name == "scha_vae":
        if config.width % 4:
            raise ConfigError(f"model.width={config.width} must be a multiple of 4: blocks work on a quarter of it")
        _check_pyramid(config, padded_size(height))


def build_model(config: Any, image_shape: tuple[int, int, int]) -> SetModel:
    """The Flax module of a config.

    Args:
      config: the section ``model`` (see configs/base.py).
      image_shape: (H, W, C) of the images.

    Returns:
      A `SetModel` with methods ``__call__``, ``encode`` and ``decode``.

    Raises:
      ConfigError: an impossible combination.
    """
    check_model(config, image_shape)
    size, _, channels = image_shape
    dtype = jnp.dtype(config.dtype)
    out_channels = likelihood_params(config.likelihood, channels)
    common = dict(likelihood=config.likelihood, channels=channels)
    if config.name == "scha_vae":
        look = dict(width=config.width, patch=config.patch, border=config.border, dtype=dtype)
        low_to_high = {key: tuple(reversed(parse_levels(config[key]))) for key in ("latents", "decoder")}
        return SetModel(
            encoder=PyramidEncoder(parse_levels(config.encoder), **look),
            nodes=scha_vae.nodes(config, low_to_high["latents"], dtype),
            start=scha_vae.Start(config.width, dtype),
            finish=scha_vae.Finish(),
            decoder=PyramidDecoder(
                low_to_high["decoder"],
                image_size=size,
                out_channels=out_channels,
                context=config.decoder_context,
                **look,
            ),
            prior_sees_images=config.prior_sees_images,
            **common,
        )
    spatial, num_c, num_z = STATISTICIANS[config.name]
    num_c, num_z = num_c(config.layers), num_z(config.layers)
    return SetModel(
        encoder=ConvEncoder(config.width, spatial, dtype),
        nodes=statistician.nodes(config, spatial=spatial, num_c=num_c, num_z=num_z, dtype=dtype),
        start=statistician.Start(),
        finish=statistician.Finish(),
        decoder=ConvDecoder(config.width, size, out_channels, spatial, dtype),
        prior_sees_images=config.prior_sees_images and num_c > 1,
        **common,
    )
