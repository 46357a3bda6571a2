"""The one traversal: every model is an ordered list of latent nodes, each on a plate.

Training, sampling, ablations and classification call the same three methods and differ only in
where each node's value comes from (the `Plan`, the masks of `Sets`, and ``given``).
"""

import functools
import itertools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from hfsgm_jax.distributions import Normal, likelihood, select
from hfsgm_jax.trace import GROUP, IMAGE, SET, SOURCES, STYLE, Given, Latent, Plan, RowSources, Sets, Trace, take_slots

LETTERS = {IMAGE: "z", SET: "c", GROUP: "a", STYLE: "s"}  # of the labels of latents
State = Any  # what a family of nodes hands down: a pytree of arrays ``[B, N or 1, ...]``


class Node(nn.Module):
    """One latent variable per row (shared plate) or per slot (image plate).

    A node is asked, in this order, to `enter` (move the state to its resolution), for its `prior`
    and its `posterior` given the state, and to `update` the state with its value.

    Attributes:
      plate: ``image`` or a shared plate.
      layer: 1 ... L, L at the top.
    """

    plate: str = IMAGE
    layer: int = 1

    @property
    def label(self) -> str:
        return f"{LETTERS[self.plate]}{self.layer}"

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one value: (channels,) or (h, w, channels)."""
        raise NotImplementedError

    def enter(self, state: State, sets: Sets) -> State:
        """The state as this node's distributions see it; also called when the node is skipped."""
        return state

    def prior(self, state: State, sets: Sets, train: bool) -> tuple[Normal, Any]:
        """p(value | parents), ``[B, N or 1, ...]``, and a residual that `update` adds."""
        raise NotImplementedError

    def posterior(self, state: State, features: Any, sets: Sets, train: bool) -> tuple[Normal, jax.Array | None]:
        """q(value | parents, evidence) and the attention weights of its aggregator, or None."""
        raise NotImplementedError

    def update(self, state: State, value: jax.Array, residual: Any) -> State:
        """The state after this node took ``value``."""
        raise NotImplementedError

    def skip(self, state: State, zeros: jax.Array) -> State:
        """The state when value (``zeros``) and residual contribute nothing."""
        return self.update(state, zeros, None)


def standard_noise(key: jax.Array, sets: Sets, nodes: tuple[Node, ...]) -> list[jax.Array]:
    """N(0, 1) noise of every node: ``[B, N, *event]``, ``[B, 1, *event]`` on shared plates.

    Each slot's noise follows from its id, so that padding and permutation change nothing. There is
    one draw per plate, split over its nodes: a draw per node would take seconds to compile.
    """
    noise = {}
    for index, plate in enumerate(sorted({node.plate for node in nodes})):
        sizes = [math.prod(node.event_shape) for node in nodes if node.plate == plate]
        draw = functools.partial(jax.random.normal, shape=(sum(sizes),))
        rows = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, index), jnp.arange(sets.num_rows))
        slots = sets.slots if plate == IMAGE else jnp.zeros((sets.num_rows, 1), jnp.int32)
        keys = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)))(rows, slots)
        flat = jax.vmap(jax.vmap(draw))(keys)
        noise[plate] = iter(jnp.split(flat, list(itertools.accumulate(sizes))[:-1], axis=-1))
    return [(part := next(noise[node.plate])).reshape(*part.shape[:2], *node.event_shape) for node in nodes]


class SetModel(nn.Module):
    """A generative model of sets: encoder, latent nodes in traversal order, decoder.

    Attributes:
      encoder: (images, observed, train) -> features, whatever the nodes read.
      nodes: c_L, z_L, c_{L-1}, ..., z_1.
      start: () -> the state before the first node.
      finish: the state after the last node -> decoder input.
      decoder: (decoder input, images, observed, train) -> parameters of the likelihood.
      likelihood: see `distributions.likelihood`.
      head: decoder output -> p(x | latents), if pixels follow one another; None: independent pixels.
      channels: of the images.
      prior_sees_images: p(c_l) sees the mean of Z_{l+1} (eq. 3).
    """

    encoder: nn.Module
    nodes: tuple[Node, ...]
    start: nn.Module
    finish: nn.Module
    decoder: nn.Module
    likelihood: str
    channels: int
    prior_sees_images: bool = False
    head: nn.Module | None = None

    def encode(self, sets: Sets, train: bool = False) -> Any:
        """Bottom-up features of the images, no noise: once per set, not once per sample."""
        return self.encoder(sets.images, sets.observed, train)

    def _encode_apart(self, sets: Sets, num_targets: int) -> Any:
        """Features in training where the last ``num_targets`` slots are targets: normalised apart from the context,
        as in a posterior of c that never meets them."""
        cut = sets.num_slots - num_targets
        parts = [
            self.encoder(sets.images[:, part], sets.observed[:, part], True) for part in (slice(cut), slice(cut, None))
        ]
        return jax.tree.map(lambda *x: jnp.concatenate(x, 1), *parts)

    def decode(self, decoder_input: Any, images: jax.Array | None = None) -> Any:
        """p(x | latents), batch shape ``[B, M]``; images matter only to an autoregressive decoder."""
        leaves = jax.tree.leaves(decoder_input)
        num = max(leaf.shape[1] for leaf in leaves)
        observed = jnp.ones((leaves[0].shape[0], num), bool)
        return self._decode(decoder_input, images, observed, train=False)

    def _decode(self, decoder_input, images, observed, train):
        params = self.decoder(decoder_input, images, observed, train)
        if self.head is not None:
            return self.head(params)
        return likelihood(self.likelihood, params, self.channels)

    def __call__(
        self,
        sets: Sets,
        plan: Plan,
        given: Given | None = None,
        features: Any = None,
        temperature: dict[str, jax.Array] | None = None,
        row_sources: RowSources | None = None,
    ) -> Trace:
        """Draws every latent, top first, and decodes.

        Args:
          sets: the batch; needs the rng stream ``sample``.
          plan: where each latent's value comes from, and which slots are decoded.
          given: label -> value ``[B, N or 1, ...]`` that the node takes.
          features: what `encode` returned for these sets; computed where needed if None.
          temperature: plate -> factor on the noise; the distributions stay untempered.
          row_sources: label -> ``[B]`` int32 index into `SOURCES`: where this latent of each row comes from,
            instead of the plan's ``posterior``. Traced, so that one program serves any choice of layers.

        Raises:
          ValueError: ``row_sources`` names a latent that the plan does not draw from its posterior.
        """
        sources = [plan.source(node.plate, node.layer) for node in self.nodes]
        drawn = [node.label for node, source in zip(self.nodes, sources) if source == "posterior"]
        if wrong := [label for label in row_sources or () if label not in drawn]:
            raise ValueError(f"row_sources of {', '.join(wrong)}: the plan draws {', '.join(drawn)} from a posterior")
        if features is None and "posterior" in sources:
            apart = plan.train and plan.decode == "target" and "batch_stats" in self.variables
            features = self._encode_apart(sets, plan.num_decoded) if apart else self.encode(sets, plan.train)
        noises = standard_noise(self.make_rng("sample"), sets, self.nodes)
        state, latents = self.start(sets), []
        for node, source, noise in zip(self.nodes, sources, noises):
            factor = (temperature or {}).get(node.plate)
            value, choice = (given or {}).get(node.label), (row_sources or {}).get(node.label)
            state, latent = _visit(node, state, features, sets, source, choice, plan.train, noise, factor, value)
            latents.append(latent)
        index = _decoded_slots(sets, plan)
        decoder_input = jax.tree.map(lambda x: take_slots(x, index), self.finish(state))
        px = self._decode(decoder_input, take_slots(sets.images, index), take_slots(sets.observed, index), plan.train)
        return Trace(tuple(latents), decoder_input, px, index, self.prior_sees_images)


def _visit(node, state, features, sets, source, choice, train, noise, temperature, value) -> tuple[State, Latent]:
    """One node of the traversal: its distributions, its value, the state after it."""
    state = node.enter(state, sets)
    prior, residual = node.prior(state, sets, train)
    posterior, weights = prior, None
    informed = sets.observed if node.plate == IMAGE else sets.context_of(node.plate).any(1, keepdims=True)
    if source == "posterior":
        posterior, weights = node.posterior(state, features, sets, train)
        if choice is not None:
            informed = informed & (choice == SOURCES.index("posterior"))[:, None]
        if isinstance(prior, Normal):
            posterior = select(informed, posterior, prior)
    else:
        informed = jnp.zeros_like(informed)
    if value is None:
        value = posterior.at(noise, temperature)
        if source == "posterior" and not isinstance(prior, Normal):  # it cannot be selected parameter by parameter
            # Drawing from it takes a loop: only where a row has no context. Gradients do not pass through that draw.
            fixed = jax.tree.map(jax.lax.stop_gradient, prior)
            value = select(informed, value, fixed.at(noise, temperature, wanted=~informed.all()))
    zeros = jnp.zeros_like(value)
    if source == "skip":
        value, state = zeros, node.skip(state, zeros)
    elif choice is None:
        state = node.update(state, value, residual)
    else:
        skipped = (choice == SOURCES.index("skip"))[:, None]
        state = select(skipped, node.skip(state, zeros), node.update(state, value, residual))
        value = select(skipped, zeros, value)
    return state, Latent(value, prior, posterior, weights, node.plate, node.layer, node.label, informed)


def _decoded_slots(sets: Sets, plan: Plan) -> jax.Array | None:
    """``[B, num_decoded]`` slots of the plan's kind first, in order; None: all slots."""
    if plan.decode == "all":
        return None
    wanted = sets.target if plan.decode == "target" else sets.present & ~sets.observed
    return jnp.argsort(~wanted, axis=1, stable=True)[:, : plan.num_decoded]
