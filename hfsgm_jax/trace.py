"""The vocabulary of the library: sets of images, plans, latents and traces.

Shapes: B rows (one set each), N slots (places of a row), H W C, L layers (L is the top).
Masks are ``[B, N]`` bool: ``context`` and ``target`` are subsets of ``observed``, which is a
subset of ``present``; what is not present is padding.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

IMAGE = "image"  # the plate of the latents z: one per slot and layer
SET = "set"  # the plate of the latents c: one per row and layer
GROUP = "group"  # the plate of latents that the classes of a group (an alphabet) share
STYLE = "style"  # the plate of latents that images of one style share
PLATES = (IMAGE, SET, GROUP, STYLE)
STILL = dict.fromkeys(PLATES, 0.0)  # temperatures at which every latent takes its mean
SOURCES = ("posterior", "prior", "skip")
DECODED = ("all", "target", "unobserved")


@flax.struct.dataclass
class Sets:
    """A batch of sets, one per row.

    Attributes:
      images: ``[B, N, H, W, C]`` float in [0, 1]; values in unobserved slots have no effect.
      slots: ``[B, N]`` int32 ids that the noise of the image plate follows.
      present: ``[B, N]`` slots that belong to the set (an image, or one to be generated).
      observed: ``[B, N]`` slots that hold an image.
      context: shared plate -> ``[B, N]``, the images that inform its latents; a label ("c3") -> those of one latent.
      target: ``[B, N]`` images scored by the objective.
      sizes: shared plate -> ``[B]`` float, images of the whole class (or group, style), |X|.
      ids: shared plate -> ``[B]`` int32, the class (or group, style) of the row.
      member: ``[B, N]`` int32 index of the image within its class, or None.
    """

    images: jax.Array
    slots: jax.Array
    present: jax.Array
    observed: jax.Array
    context: dict[str, jax.Array]
    target: jax.Array
    sizes: dict[str, jax.Array]
    ids: dict[str, jax.Array] = flax.struct.field(default_factory=dict)
    member: jax.Array | None = None

    @property
    def num_rows(self) -> int:
        return self.images.shape[0]

    @property
    def num_slots(self) -> int:
        return self.images.shape[1]

    def context_of(self, plate: str, label: str = "") -> jax.Array:
        """``[B, N]`` the images that inform the latents of a shared plate, or one; default: those of the set plate."""
        return self.context.get(label, self.context.get(plate, self.context[SET]))

    def size_of(self, plate: str) -> jax.Array:
        """``[B]`` number of images that share a latent of this plate; default: that of the set plate."""
        return self.sizes.get(plate, self.sizes[SET])

    @classmethod
    def of(
        cls,
        images: jax.Array,
        mask: jax.Array | None = None,
        *,
        context: jax.Array | None = None,
        target: jax.Array | None = None,
        present: jax.Array | None = None,
        class_size: jax.Array | None = None,
        label: jax.Array | None = None,
    ) -> "Sets":
        """Sets whose every image is context and target, unless masks say otherwise.

        Args:
          images: ``[B, N, H, W, C]`` in [0, 1].
          mask: ``[B, N]`` bool, the slots that hold an image; all by default.
          context, target, present: ``[B, N]`` bool; default: ``mask``.
          class_size: ``[B]`` images of the whole class; default: the size of the context.
          label: ``[B]`` class ids.
        """
        b, n = images.shape[:2]
        mask = jnp.ones((b, n), bool) if mask is None else jnp.asarray(mask, bool)
        context = mask if context is None else jnp.asarray(context, bool)
        sizes = context.sum(1) if class_size is None else class_size
        return cls(
            images=images,
            slots=jnp.broadcast_to(jnp.arange(n, dtype=jnp.int32), (b, n)),
            present=mask if present is None else jnp.asarray(present, bool),
            observed=mask,
            context={SET: context},
            target=mask if target is None else jnp.asarray(target, bool),
            sizes={SET: jnp.asarray(sizes, jnp.float32)},
            ids={} if label is None else {SET: label},
        )

    def with_unobserved(self, num: int) -> "Sets":
        """The same sets with ``num`` more slots, present and unobserved: images to generate."""
        wide = jax.tree.map(functools.partial(pad_slots, num=num), self.replace(sizes={}, ids={}))
        # Above the ids of the set's own images: padding does not change the noise of the new ones.
        first = jnp.where(self.present, self.slots, -1).max(1, keepdims=True, initial=-1) + 1
        slots = jnp.concatenate([self.slots, first + jnp.arange(num, dtype=jnp.int32)], 1)
        present = wide.present | (jnp.arange(wide.num_slots) >= self.num_slots)
        return wide.replace(slots=slots, present=present, sizes=self.sizes, ids=self.ids)

    def with_observed(self, images: jax.Array) -> "Sets":
        """The same sets with one more image each, ``[B, 1, H, W, C]``: observed, target, and context of every plate."""
        wide = self.with_unobserved(1)
        is_new = jnp.broadcast_to(jnp.arange(wide.num_slots) == self.num_slots, wide.present.shape)
        return wide.replace(
            images=jnp.concatenate([self.images, images], 1),
            observed=wide.observed | is_new,
            context={plate: mask | is_new for plate, mask in wide.context.items()},
            target=wide.target | is_new,
        )


@dataclasses.dataclass(frozen=True)
class Plan:
    """Source of every latent's value; hashable, so static under ``jax.jit``.

    Attributes:
      sources: ``(plate, layer or None for all, source)`` triples, later ones win; what none
        names draws from its posterior. Sources: ``posterior``, ``prior``, ``skip`` (value and
        residual contribute nothing, and no KL is counted: no longer a bound).
      decode: the slots that are decoded: ``all``, ``target`` or ``unobserved``.
      num_decoded: slots decoded per row where ``decode`` is not ``all`` (a static bound).
      train: batch statistics instead of running ones.
    """

    sources: tuple[tuple[str, int | None, str], ...] = ()
    decode: str = "all"
    num_decoded: int | None = None
    train: bool = False

    def __post_init__(self):
        for _, _, source in self.sources:
            if source not in SOURCES:
                raise ValueError(f"a latent's source is one of {SOURCES}, not {source!r}")
        if self.decode not in DECODED or (self.decode == "all") != (self.num_decoded is None):
            raise ValueError(f"Plan.decode is one of {DECODED}, all but the first with num_decoded")

    def source(self, plate: str, layer: int) -> str:
        """Source of the value of this plate and layer's latent."""
        named = [source for of, at, source in self.sources if of == plate and at in (None, layer)]
        return named[-1] if named else "posterior"


PRIOR = Plan(sources=tuple((plate, None, "prior") for plate in PLATES))
SHARED_PRIOR = Plan(sources=tuple((plate, None, "prior") for plate in PLATES if plate != IMAGE))


@flax.struct.dataclass
class Latent:
    """One latent variable of a trace.

    Attributes:
      value: ``[B, N or 1, ...]``; N on the image plate, 1 on a shared one.
      prior, posterior: distributions over ``value`` given its parents (they may broadcast over
        N). The posterior equals the prior wherever nothing informs the latent.
      weights: ``[B, N, heads]`` attention of the posterior's aggregator, or None.
      plate, layer, label: ``"set", 3, "c3"``; static.
      informed: ``[B, N or 1]`` bool, where the posterior saw evidence; None: everywhere. Elsewhere the
        posterior is the prior, and KL and log p - log q are exactly 0.
    """

    value: jax.Array
    prior: Any
    posterior: Any
    weights: jax.Array | None
    plate: str = flax.struct.field(pytree_node=False)
    layer: int = flax.struct.field(pytree_node=False)
    label: str = flax.struct.field(pytree_node=False)
    informed: jax.Array | None = None


@flax.struct.dataclass
class Trace:
    """Result of one traversal: all that objectives, classifiers and samplers read.

    Attributes:
      latents: in traversal order, c_L, z_L, c_{L-1}, ...
      decoder_input: the decoder's input.
      px: p(x | latents), batch shape ``[B, M]`` for the M decoded slots.
      decoded: ``[B, M]`` int32, which slot each of them is, or None: all, in order.
      prior_sees_images: whether the prior of a shared latent depends on latents of images.
    """

    latents: tuple[Latent, ...]
    decoder_input: Any
    px: Any
    decoded: jax.Array | None
    prior_sees_images: bool = flax.struct.field(pytree_node=False, default=False)

    def __getitem__(self, label: str) -> Latent:
        return {latent.label: latent for latent in self.latents}[label]

    @property
    def shared(self) -> tuple[Latent, ...]:
        """The latents that a set (or group, style) shares, in traversal order; none of a VAE."""
        return tuple(latent for latent in self.latents if latent.plate != IMAGE)

    def on(self, plate: str) -> tuple[Latent, ...]:
        """The latents of one plate, top first."""
        return tuple(latent for latent in self.latents if latent.plate == plate)


@flax.struct.dataclass
class Skip:
    """In place of a given value: in ``rows`` ``[B]`` bool the latent contributes nothing; elsewhere it is drawn.

    Value 0, no residual, no KL: no longer a bound. ``rows`` is traced, so that one program serves any choice.
    """

    rows: jax.Array


Given = Mapping[str, jax.Array | Skip]
Apply = Callable[..., Trace]  # (sets, plan, key, given=None, features=None, temperature=None)
Encode = Callable[[Sets], Any]


def as_batch(row: Any) -> Any:
    """A pytree of arrays without an axis of rows, such as one row of `Sets`, as a batch of one."""
    return jax.tree.map(lambda x: x[None], row)


def take_slots(x: jax.Array, index: jax.Array | None) -> jax.Array:
    """Picks slots ``index`` ``[B, M]`` of ``x`` ``[B, N or 1, ...]``; None or N = 1 pick all."""
    if index is None or x.shape[1] == 1:
        return x
    return jnp.take_along_axis(x, expand_mask(index, x.ndim), axis=1)


def pad_slots(x: jax.Array, num: int) -> jax.Array:
    """``[B, N, ...]`` with ``num`` more slots of zeros."""
    return jnp.pad(x, ((0, 0), (0, num)) + ((0, 0),) * (x.ndim - 2))


def expand_mask(mask: jax.Array, ndim: int) -> jax.Array:
    """``[B, N]`` -> ``[B, N, 1, ...]`` with ``ndim`` axes, to broadcast over events."""
    return mask.reshape(mask.shape + (1,) * (ndim - mask.ndim))


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of ``x`` ``[B, N, ...]`` over the slots of ``mask``: ``[B, 1, ...]``, 0 where empty."""
    mask = expand_mask(mask, x.ndim)
    total = jnp.where(mask, x, 0).sum(1, keepdims=True)
    return total / jnp.maximum(mask.sum(1, keepdims=True), 1).astype(x.dtype)
