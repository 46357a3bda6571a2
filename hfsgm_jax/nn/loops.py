"""Modules that are alike, one after another, as one compiled loop over their stacked parameters.

A loop compiles its body once, and its backward pass computes every turn again from what the turn before handed on:
quicker compilation and less memory for more time. Parameters have the names that they have without it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

Tree = Any


def unbound(module: nn.Module) -> nn.Module:
    """The module without its place in a model, to be applied to the parameters of any module that is like it."""
    return module.clone(parent=None, name=None)


def parameters(parent: nn.Module, child: nn.Module) -> Tree:
    """Those of one submodule, as `unbound` modules take them."""
    return parent.variables["params"][child.name]


def loop(body: Callable, carry: Tree, params: Sequence[Tree], inputs: Sequence[Tree]) -> tuple[Tree, list[Tree]]:
    """``carry, output = body(carry, params, input)`` for each turn: the last carry and all outputs.

    Parameters enter the loop, and their gradients leave it, as one vector a turn: a few kernels in place of a few for
    every array.
    """
    unravel = ravel_pytree(params[0])[1]
    turn = jax.checkpoint(lambda carry, x: body(carry, unravel(x[0]), x[1]), prevent_cse=False)
    turns = [(ravel_pytree(own)[0], x) for own, x in zip(params, inputs)]
    carry, outputs = jax.lax.scan(turn, carry, jax.tree.map(lambda *x: jnp.stack(x), *turns))
    return carry, [jax.tree.map(lambda x, i=i: x[i], outputs) for i in range(len(turns))]


def one_after_another(parent: nn.Module, blocks: Sequence[nn.Module], x: jax.Array) -> jax.Array:
    """Blocks that keep the shape of ``x``, in a loop if ``parent.loop``."""
    if len(blocks) > 1 and parent.loop and not parent.is_initializing():
        block = unbound(blocks[0])
        body = lambda x, params, _: (block.apply({"params": params}, x), None)
        return loop(body, x, [parameters(parent, block) for block in blocks], [None] * len(blocks))[0]
    for block in blocks:
        x = block(x)
    return x
