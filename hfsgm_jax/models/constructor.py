"""Constructors: functions from keywords to a `SetModel`, registered by name."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from hfsgm_jax.distributions import LIKELIHOODS
from hfsgm_jax.errors import ConfigError, check_choice, hint, nearest
from hfsgm_jax.keys import keywords
from hfsgm_jax.models.base import SetModel
from hfsgm_jax.nn.autoregressive import PixelHead

MODELS: dict[str, Callable[..., SetModel]] = {}
ImageShape = tuple[int, int, int]
IMAGE_SIZES = (28, 32, 40, 64)


def constructor(name: str, without: Sequence[str] = ()) -> Callable[[Callable[..., SetModel]], Callable[..., SetModel]]:
    """Registers a function ``(image_shape, *, keywords) -> SetModel`` as the model ``name``.

    Its keywords, but those the model is ``without``, are the keys of ``config.model``. Their values are checked against
    ``Annotated[type, Key(...)]`` annotations before it is called, and the call is kept in the model
    (`SetModel.made_of`), so that it can be saved.

    Raises (the function made of it):
      ConfigError: a value out of range, an impossible combination.
    """

    def register(function: Callable[..., SetModel]) -> Callable[..., SetModel]:
        known = {keyword: key for keyword, key in keywords(function).items() if keyword not in without}
        signature = inspect.signature(function)
        usual = signature.parameters["image_shape"].default

        def construct(image_shape: ImageShape = usual, **given: Any) -> SetModel:
            for keyword in given.keys() - known.keys():
                raise ConfigError(f"{name} has no keyword {keyword!r}{hint(nearest(keyword, known))}")
            values = {keyword: given.get(keyword, key.default) for keyword, key in known.items()}
            if problems := [p for keyword, key in known.items() if (p := key.problem(keyword, values[keyword]))]:
                raise ConfigError("\n".join(problems))
            return function(image_shape=tuple(image_shape), **values).clone(made_of=(("name", name), *values.items()))

        functools.update_wrapper(construct, getattr(function, "func", function))
        kept = [parameter for keyword, parameter in signature.parameters.items() if keyword not in without]
        construct.__signature__ = signature.replace(parameters=kept)
        construct.__name__ = name
        MODELS[name] = construct
        return construct

    return register


def build_model(config: Any, image_shape: ImageShape) -> SetModel:
    """The Flax module of a config's section ``model``.

    Args:
      config: ``name`` and keywords of that constructor.
      image_shape: (H, W, C).

    Raises:
      ConfigError: an unknown name or keyword, a value out of range, an impossible combination.
    """
    values = dict(config)
    name = values.pop("name", None)
    check_choice("model.name", name, MODELS)
    try:
        return MODELS[name](tuple(image_shape), **values)
    except ConfigError as error:
        raise ConfigError("\n".join(f"model.{line}" for line in str(error).splitlines())) from None


def check_images(image_shape: ImageShape, sizes: tuple[int, ...] = IMAGE_SIZES) -> None:
    """Raises a ConfigError unless images are square, of one of these sizes, and grey or RGB."""
    height, width, channels = image_shape
    if height != width or height not in sizes or channels not in (1, 3):
        need = f"square images of {', '.join(map(str, sizes))} pixels with 1 or 3 channels"
        raise ConfigError(f"image_shape={height}x{width}x{channels}: this model takes {need}")


def of_pixels(
    image_shape: ImageShape, likelihood: str, layers: int, width: int, dtype: str
) -> tuple[dict[str, Any], int]:
    """Fields of a `SetModel`, and the values per pixel that its decoder puts out.

    With ``layers`` there is an autoregressive head, of this ``width``.
    """
    channels, fields = image_shape[-1], dict(likelihood=likelihood, image_shape=image_shape)
    if not layers:
        return fields, LIKELIHOODS[likelihood].num_params(channels)
    if channels > 1 and likelihood != "discretized_logistics":
        problem = f"likelihood={likelihood!r} leaves the {channels} channels of a pixel independent"
        raise ConfigError(f"{problem}: with pixelcnn_layers use likelihood='discretized_logistics'")
    return fields | {"head": PixelHead(likelihood, channels, width, layers, jnp.dtype(dtype))}, width


def check_heads(aggregate: str, width: int, heads: int) -> None:
    """Raises a ConfigError where attention heads do not divide the features."""
    if aggregate == "lag" and width % heads:
        raise ConfigError(f"heads={heads} does not divide width={width}")
