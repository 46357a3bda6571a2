"""From a config's section ``model`` to a Flax module, with every check before any long work."""

import difflib
from typing import Any

import jax.numpy as jnp

from hfsgm_jax.config import ConfigError
from hfsgm_jax.distributions import likelihood_params
from hfsgm_jax.models import one_dim, scha_vae, statistician, vhe
from hfsgm_jax.models.base import SetModel
from hfsgm_jax.nn.aggregate import AGGREGATORS
from hfsgm_jax.nn.autoregressive import PixelHead
from hfsgm_jax.nn.baseline import GRID, ConvDecoder, ConvEncoder, grid_side
from hfsgm_jax.nn.bottleneck import PyramidDecoder, PyramidEncoder, parse_levels
from hfsgm_jax.nn.families import FAMILIES
from hfsgm_jax.nn.layers import padded_size
from hfsgm_jax.nn.pixelcnn import FORMS
from hfsgm_jax.nn.vhe import HomoencoderDecoder, HomoencoderFeatures

IMAGE_SIZES = (28, 32, 40, 64)
# name -> (latents are maps, set latents as a function of L, image latents as a function of L)
STATISTICIANS = {
    "vae": (False, lambda layers: 0, lambda layers: layers),
    "bns": (False, lambda layers: 1, lambda layers: 1),
    "ns": (False, lambda layers: 1, lambda layers: layers),
    "hfsgm": (False, lambda layers: layers, lambda layers: layers),
    "cns": (True, lambda layers: 1, lambda layers: layers),
    "chfsgm": (True, lambda layers: layers, lambda layers: layers),
    "hierarchical_vhe": (False, lambda layers: 1, lambda layers: layers),
}
HOMOENCODERS = ("pixelcnn_vhe", "factorial_vhe")  # c is a map as large as the images
NAMES = (*STATISTICIANS, "scha_vae", *HOMOENCODERS, "one_dim")
CHOICES = {
    "name": NAMES,
    "aggregate": AGGREGATORS,
    "condition": ("bias", "film"),
    "likelihood": ("bernoulli", "discretized_normal", "discretized_logistics", *FAMILIES),
    "border": ("pad", "nearest"),
    "decoder_context": ("full", "top_left"),
    "context_prior": ("normal", *FORMS),
    "pixelcnn_form": FORMS,
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
    if config.remat and config.name != "scha_vae":
        raise ConfigError(
            f"model.remat=True recomputes the residual blocks of model.name='scha_vae', and {config.name!r} has none: "
            "use model.remat=False"
        )
    if config.name == "one_dim":
        return one_dim.check(config, image_shape)
    if config.likelihood in FAMILIES:
        raise ConfigError(f"model.likelihood={config.likelihood!r} is of single numbers, of model.name='one_dim' alone")
    height, width, channels = image_shape
    if height != width or height not in IMAGE_SIZES or channels not in (1, 3):
        raise ConfigError(
            f"images of {height}x{width}x{channels}: models take square images of {', '.join(map(str, IMAGE_SIZES))} "
            "pixels with 1 or 3 channels (set data.image_size, data.channels)"
        )
    for key in (
        "width",
        "c_channels",
        "z_channels",
        "a_channels",
        "style_channels",
        "encoder_width",
        "prior_width",
        "pixelcnn_width",
        "layers",
        "blocks",
        "heads",
        "patch",
    ):
        if config[key] < 1:
            raise ConfigError(f"model.{key}={config[key]} must be at least 1")
    for key in ("pixelcnn_layers", "context_kernel"):
        if config[key] < 0:
            raise ConfigError(f"model.{key}={config[key]} must not be negative")
    _check_pixelcnn(config, channels)
    _check_context(config, height)
    if STATISTICIANS.get(config.name, (False,))[0] and grid_side(height) != GRID:
        fit = ", ".join(str(size) for size in IMAGE_SIZES if grid_side(size) == GRID)
        raise ConfigError(
            f"images of {height} pixels: the latents of model.name={config.name!r} are maps of {GRID}x{GRID} "
            f"positions, to which {height} pixels do not halve: use data.image_size of {fit}, or a model whose latents "
            "are vectors"
        )
    if config.aggregate == "lag" and config.width % config.heads:
        raise ConfigError(f"model.heads={config.heads} does not divide model.width={config.width}")
    if config.name == "scha_vae":
        if config.width % 4:
            raise ConfigError(f"model.width={config.width} must be a multiple of 4: blocks work on a quarter of it")
        _check_pyramid(config, padded_size(height))


def _check_pixelcnn(config: Any, channels: int) -> None:
    """An autoregressive decoder needs a likelihood of a pixel that knows its colours, and has a form only if it is."""
    layers, form = config.pixelcnn_layers, config.pixelcnn_form
    if config.name == "pixelcnn_vhe" and not layers:
        raise ConfigError("model.name='pixelcnn_vhe' needs model.pixelcnn_layers of at least 1")
    if form != FORMS[0] and not layers:
        raise ConfigError(
            f"model.pixelcnn_form={form!r} is of an autoregressive decoder, and model.pixelcnn_layers is 0: set it to "
            f"at least 1, or leave {FORMS[0]!r}"
        )
    if layers and channels > 1 and config.likelihood != "discretized_logistics":
        raise ConfigError(
            f"model.pixelcnn_layers={layers} goes pixel by pixel, and model.likelihood={config.likelihood!r} would "
            f"leave the {channels} channels of a pixel independent of each other: use model.likelihood="
            "'discretized_logistics' (and data.binarize='none'), or model.pixelcnn_layers=0"
        )


def _check_context(config: Any, size: int) -> None:
    """What is of a map c only."""
    prior, kernel = config.context_prior, config.context_kernel
    if config.name in HOMOENCODERS:
        if kernel > size:
            raise ConfigError(f"model.context_kernel={kernel} is larger than the images, {size} pixels (0: as large)")
        return
    for key, value, default in (("context_prior", prior, FORMS[0]), ("context_kernel", kernel, 0)):
        if value != default:
            raise ConfigError(
                f"model.{key}={value!r} is of models whose c is a map as large as the images "
                f"({', '.join(HOMOENCODERS)}), and model.name={config.name!r} has none: leave {default!r}"
            )


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
    if config.name == "one_dim":
        return one_dim.build(config)
    size, _, channels = image_shape
    dtype = jnp.dtype(config.dtype)
    common = dict(likelihood=config.likelihood, channels=channels, head=_head(config, channels, dtype))
    # What the decoder puts out: the likelihood's parameters, or what the autoregressive head is conditioned on.
    out_channels = config.pixelcnn_width if config.pixelcnn_layers else likelihood_params(config.likelihood, channels)
    if config.name == "scha_vae":
        return _scha_vae(config, size, out_channels, dtype, common)
    if config.name in HOMOENCODERS:
        return _homoencoder(config, size, out_channels, dtype, common)
    return _statistician(config, size, out_channels, dtype, common)


def _head(config: Any, channels: int, dtype: Any) -> PixelHead | None:
    if not config.pixelcnn_layers:
        return None
    form = dict(layers=config.pixelcnn_layers, form=config.pixelcnn_form)
    return PixelHead(config.likelihood, channels, config.pixelcnn_width, **form, dtype=dtype)


def _scha_vae(config: Any, size: int, out_channels: int, dtype: Any, common: dict[str, Any]) -> SetModel:
    look = dict(width=config.width, patch=config.patch, border=config.border, remat=config.remat, dtype=dtype)
    low_to_high = {key: tuple(reversed(parse_levels(config[key]))) for key in ("latents", "decoder")}
    shape = dict(image_size=size, out_channels=out_channels, context=config.decoder_context)
    return SetModel(
        encoder=PyramidEncoder(parse_levels(config.encoder), **look),
        nodes=scha_vae.nodes(config, low_to_high["latents"], dtype),
        start=scha_vae.Start(config.width, dtype),
        finish=scha_vae.Finish(),
        decoder=PyramidDecoder(low_to_high["decoder"], **shape, **look),
        prior_sees_images=config.prior_sees_images,
        **common,
    )


def _homoencoder(config: Any, size: int, out_channels: int, dtype: Any, common: dict[str, Any]) -> SetModel:
    styled = config.name == "factorial_vhe"
    features = dict(align_features=config.width // 4, features=config.width // 2)
    return SetModel(
        encoder=HomoencoderFeatures(config.z_channels, **features, styled=styled, dtype=dtype),
        nodes=vhe.nodes(config, size, styled),
        start=vhe.Start(),
        finish=vhe.Finish(),
        decoder=HomoencoderDecoder(
            config.width, None if config.pixelcnn_layers else out_channels, config.blocks, dtype
        ),
        **common,
    )


def _statistician(config: Any, size: int, out_channels: int, dtype: Any, common: dict[str, Any]) -> SetModel:
    spatial, num_c, num_z = STATISTICIANS[config.name]
    num_c, num_z = num_c(config.layers), num_z(config.layers)
    groups = config.name == "hierarchical_vhe"
    kind = dict(spatial=spatial, num_c=num_c, num_z=num_z, groups=groups, dtype=dtype)
    return SetModel(
        encoder=ConvEncoder(config.width, spatial, config.encoder_width, dtype),
        nodes=statistician.nodes(config, **kind),
        start=statistician.Start(),
        finish=statistician.Finish(),
        decoder=ConvDecoder(config.width, size, out_channels, spatial, config.encoder_width, dtype),
        prior_sees_images=config.prior_sees_images and num_c > 1,
        **common,
    )
