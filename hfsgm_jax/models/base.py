"""The one traversal: every model is an ordered list of latent nodes, each on a plate.

Training, sampling, ablations and classification call the same two methods and differ only in
where each node's value comes from (the `Plan`, the masks of `Sets`, and ``given``).
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from hfsgm_jax.distributions import LIKELIHOODS, Normal, select
from hfsgm_jax.errors import UserError
from hfsgm_jax.nn import loops
from hfsgm_jax.trace import GROUP, IMAGE, SET, STYLE, Given, Latent, Plan, Sets, Skip, Trace, take_slots

LETTERS = {IMAGE: "z", SET: "c", GROUP: "a", STYLE: "s"}  # of the labels of latents
# Handed from node to node, a pytree of arrays ``[B, N or 1, ...]``; unless nodes do otherwise, the values so far:
# plate -> those of its latents, top first.
State = Any
POSTERIOR = Plan()
PLACE = dict.fromkeys(("layer", "name", "parent"))  # fields of a node that say where it is, not what it computes


class Node(nn.Module):
    """One latent variable per row (shared plate) or per slot (image plate).

    A node is asked, in this order, to `enter` (move the state to its resolution), for its `prior`
    and its `posterior` given the state, and to `update` the state with its value.

    Attributes:
      plate: ``image`` or a shared plate.
      layer: 1 ... L, L at the top.
      channels: size of a value, or of every position of a map.
    """

    plate: str = IMAGE
    layer: int = 1
    channels: int = 32

    @property
    def label(self) -> str:
        return f"{LETTERS[self.plate]}{self.layer}"

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one value: (channels,), or (h, w, channels) of a map."""
        return (self.channels,)

    def context(self, sets: Sets) -> jax.Array:
        """``[B, N]`` the images that inform this latent of a shared plate."""
        return sets.context_of(self.plate, self.label)

    def enter(self, state: State, sets: Sets) -> State:
        """The state as this node's distributions see it; also called when the node is skipped."""
        return state

    def prior(self, state: State, sets: Sets, train: bool) -> tuple[Normal, Any]:
        """p(value | parents), ``[B, N or 1, ...]``, here N(0, I); and a residual that `update` adds."""
        return Normal.standard((sets.num_rows, 1, *self.event_shape)), None

    def posterior(self, state: State, features: Any, sets: Sets, train: bool) -> tuple[Normal, jax.Array | None]:
        """q(value | parents, evidence) and the attention weights of its aggregator, or None."""
        raise NotImplementedError

    def update(self, state: State, value: jax.Array, residual: Any) -> State:
        """The state after this node took ``value``."""
        return {**state, self.plate: (*state.get(self.plate, ()), value)}

    def skip(self, state: State, zeros: jax.Array) -> State:
        """The state when value (``zeros``) and residual contribute nothing."""
        return self.update(state, zeros, None)


def standard_noise(key: jax.Array, sets: Sets, nodes: tuple[Node, ...], train: bool = False) -> list[jax.Array]:
    """N(0, 1) noise of every node: ``[B, N, *event]``, ``[B, 1, *event]`` on shared plates.

    Each slot's noise follows from its id, so that padding and permutation change nothing. There is
    one draw per plate, split over its nodes: a draw per node would take seconds to compile.
    """
    # In training on several CPU devices, each has its own rows; in `rows.each_row`, every row has its own key.
    own = train and jax.sharding.get_abstract_mesh().manual_axes
    rows = jnp.arange(sets.num_rows) + (sets.num_rows * jax.lax.axis_index(own) if own else 0)
    fold_in, noise = jax.vmap(jax.random.fold_in, (None, 0)), {}
    for index, plate in enumerate(sorted({node.plate for node in nodes})):
        sizes = [math.prod(node.event_shape) for node in nodes if node.plate == plate]
        draw = functools.partial(jax.random.normal, shape=(sum(sizes),))
        slots = sets.slots if plate == IMAGE else jnp.zeros((sets.num_rows, 1), jnp.int32)
        keys = jax.vmap(fold_in)(fold_in(jax.random.fold_in(key, index), rows), slots)
        flat = jax.vmap(jax.vmap(draw))(keys)
        noise[plate] = iter(jnp.split(flat, list(itertools.accumulate(sizes))[:-1], axis=-1))
    return [(part := next(noise[node.plate])).reshape(*part.shape[:2], *node.event_shape) for node in nodes]


class SetModel(nn.Module):
    """A generative model of sets: encoder, latent nodes in traversal order, decoder.

    Attributes:
      encoder: (images, observed, train) -> features, read by the nodes.
      nodes: c_L, z_L, c_{L-1}, ..., z_1.
      decoder: (the state after the last node, observed, train) -> parameters of the likelihood.
      likelihood: name in `distributions.LIKELIHOODS`.
      image_shape: (H, W, C).
      start: (sets) -> the state before the first node; None: no values yet.
      head: decoder output -> p(x | latents), for pixels that follow one another; None: independent pixels.
      prior_sees_images: p(c_l) sees the mean of Z_{l+1} (eq. 3).
      loop: layers (c_l, z_l) that are alike are visited by a compiled loop (`nn.loops`).
      made_of: the call of the constructor: ("name", its name), (keyword, value), ...; () if put together by hand.
    """

    encoder: nn.Module
    nodes: tuple[Node, ...]
    decoder: nn.Module
    likelihood: str
    image_shape: tuple[int, int, int]
    start: nn.Module | None = None
    head: nn.Module | None = None
    prior_sees_images: bool = False
    loop: bool = False
    made_of: tuple[tuple[str, Any], ...] = ()

    @property
    def shared_nodes(self) -> tuple[Node, ...]:
        """The nodes whose latents a set (or group, style) shares, top first; none of a VAE."""
        return tuple(node for node in self.nodes if node.plate != IMAGE)

    def encode(self, sets: Sets, train: bool = False) -> Any:
        """Bottom-up features of the images, no noise: once per set, not once per sample."""
        return self.encoder(sets.images, sets.observed, train)

    def _encode_apart(self, sets: Sets, num_targets: int) -> Any:
        """Features in training where the last ``num_targets`` slots are targets: normalised apart from the context,
        as in a posterior of c that never meets them."""
        cut = [sets.num_slots - num_targets]
        images, observed = jnp.split(sets.images, cut, 1), jnp.split(sets.observed, cut, 1)
        parts = [self.encoder(*part, True) for part in zip(images, observed)]
        return jax.tree.map(lambda *x: jnp.concatenate(x, 1), *parts)

    def __call__(
        self,
        sets: Sets,
        plan: Plan = POSTERIOR,
        given: Given | None = None,
        features: Any = None,
        temperature: dict[str, jax.Array] | None = None,
    ) -> Trace:
        """Draws every latent, top first, and decodes.

        Args:
          sets: the batch; needs the rng stream ``sample``.
          plan: where each latent's value comes from, and which slots are decoded.
          given: label -> value ``[B, N or 1, ...]`` that the node takes, or a `Skip`.
          features: result of `encode` for these sets; computed where needed if None.
          temperature: plate -> factor on the noise; the distributions stay untempered.
        """
        if not jnp.issubdtype(sets.images.dtype, jnp.floating):
            raise UserError(f"images of dtype {sets.images.dtype} were given; a model takes floats in [0, 1]")
        if features is None and any(plan.source(node.plate, node.layer) == "posterior" for node in self.nodes):
            apart = plan.train and plan.decode == "target" and "batch_stats" in self.variables
            features = self._encode_apart(sets, plan.num_decoded) if apart else self.encode(sets, plan.train)
        draws = standard_noise(self.make_rng("sample"), sets, self.nodes, plan.train)
        noise = {node.label: x for node, x in zip(self.nodes, draws)}
        state, latents = {} if self.start is None else self.start(sets), []
        given, temperature = given or {}, temperature or {}
        visit = lambda node, state, noise: _visit(node, state, noise, features, sets, plan, given, temperature)
        alone = {*given, *sets.context, *(layer for _, layer, _ in plan.sources)}
        for layers in self._alike(alone):
            if len(layers) > 1:
                state, found = self._visit_in_loop(visit, layers[0][0].enter(state, sets), layers, noise)
                latents += found
                continue
            for node in layers[0]:
                state, latent = visit(node, state, noise[node.label])
                latents.append(latent)
        index = _decoded_slots(sets, plan)
        decoder_input = jax.tree.map(lambda x: take_slots(x, index), state)
        px = self.decode(decoder_input, sets.images, take_slots(sets.observed, index), plan.train)
        return Trace(tuple(latents), decoder_input, px, index, self.prior_sees_images)

    def decode(
        self, decoder_input: State, images: jax.Array, observed: jax.Array | None = None, train: bool = False
    ) -> Any:
        """p(x | latents) from `Trace.decoder_input`, as it is or changed; a trace's own is `Trace.px`.

        Args:
          images: ``[B, N, H, W, C]``, those of the decoded slots; only their number matters here. The ``log_prob`` of
            an autoregressive p(x | latents) reads their pixels.
          observed: ``[B, N]``, what batch normalisation in training counts (None: all).
        """
        observed = jnp.ones(images.shape[:2], bool) if observed is None else observed
        params = self.decoder(decoder_input, observed, train)
        return self.head(params) if self.head else LIKELIHOODS[self.likelihood].make(params, self.image_shape[-1])

    def _alike(self, alone: set[Any]) -> list[list[tuple[Node, ...]]]:
        """The nodes in order: runs of layers (c_l, z_l) that are alike, which a loop can visit.

        Layers whose number, or one of whose labels, is in ``alone`` are like no others. Without a loop all nodes are
        one layer.
        """
        if not self.loop or self.is_initializing():
            return [[self.nodes]]

        def form(layer):
            if any(node.label in alone or node.layer in alone for node in layer):
                return layer[0].label
            return [{name: getattr(node, name) for name in node.__dataclass_fields__} | PLACE for node in layer]

        return [list(run) for _, run in itertools.groupby(zip(self.nodes[::2], self.nodes[1::2]), form)]

    def _visit_in_loop(self, visit: Callable, state: State, layers: list, noise: dict) -> tuple[State, list[Latent]]:
        """Layers that are alike by a loop, from a state at their resolution."""
        alike = [loops.unbound(node) for node in layers[0]]

        def body(state, params, noise):
            latents = []
            for node, own, x in zip(alike, params, noise):
                state, latent = nn.apply(visit, node)({"params": own}, state, x)
                latents.append(latent)
            return state, latents

        params = [[loops.parameters(self, node) for node in layer] for layer in layers]
        state, found = loops.loop(body, state, params, [[noise[node.label] for node in layer] for layer in layers])
        pairs = zip(itertools.chain(*layers), itertools.chain(*found))
        return state, [latent.replace(layer=node.layer, label=node.label) for node, latent in pairs]


def abstract_variables(model: SetModel) -> dict[str, Any]:
    """Shapes and dtypes of a model's variables; traces it, computes nothing."""
    key, sets = jax.random.key(0), Sets.of(jnp.zeros((1, 2, *model.image_shape)))
    return jax.eval_shape(lambda: model.init({"params": key, "sample": key}, sets, Plan()))


def _visit(node, state, noise, features, sets, plan, given, temperature) -> tuple[State, Latent]:
    """One node of the traversal: its distributions, its value, the state after it."""
    source, value, factor = plan.source(node.plate, node.layer), given.get(node.label), temperature.get(node.plate)
    state = node.enter(state, sets)
    prior, residual = node.prior(state, sets, plan.train)
    posterior, weights = prior, None
    informed = sets.observed if node.plate == IMAGE else node.context(sets).any(1, keepdims=True)
    skipped = jnp.ones(sets.num_rows, bool) if source == "skip" else None
    if isinstance(value, Skip):
        skipped, value = value.rows, None
    if source == "posterior":
        posterior, weights = node.posterior(state, features, sets, plan.train)
        informed = informed if skipped is None else informed & ~skipped[:, None]
        if isinstance(prior, Normal):
            posterior = select(informed, posterior, prior)
    else:
        informed = jnp.zeros_like(informed)
    if value is None:
        value = posterior.at(noise, factor)
        if source == "posterior" and not isinstance(prior, Normal):  # it cannot be selected parameter by parameter
            # Drawing from it takes a loop: only where a row has no context. Gradients do not pass through that draw.
            fixed = jax.tree.map(jax.lax.stop_gradient, prior)
            value = select(informed, value, fixed.at(noise, factor, wanted=~informed.all()))
    if skipped is None:
        state = node.update(state, value, residual)
    else:
        rows, zeros = skipped[:, None], jnp.zeros_like(value)
        state = select(rows, node.skip(state, zeros), node.update(state, value, residual))
        value = select(rows, zeros, value)
    return state, Latent(value, prior, posterior, weights, node.plate, node.layer, node.label, informed)


def _decoded_slots(sets: Sets, plan: Plan) -> jax.Array | None:
    """``[B, num_decoded]`` slots of the plan's kind first, in order; None: all slots."""
    if plan.decode == "all":
        return None
    wanted = sets.target if plan.decode == "target" else sets.present & ~sets.observed
    return jnp.argsort(~wanted, axis=1, stable=True)[:, : plan.num_decoded]
