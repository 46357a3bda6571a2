"""The numbers of all members of the family on record: `python tests/models/on_record.py` writes them anew.

A change that means to leave the numbers alone is held to them by a test; a change that moves them writes them anew and
says why. Those committed first are of the code before it was rewritten for brevity.
"""

import json
from pathlib import Path

import jax
import numpy as np
from family import FAMILY, images, mask, member

from hfsgm_jax.trace import Sets

FILE = Path(__file__).with_suffix(".json")


def numbers(name):
    """Of three images and a new one: loss and log-weights, gradients, latents, log-probabilities of the new one."""
    trace, _, log_weight, loss, grads = member(name)[2](Sets.of(images(), mask(0, 1, 2), present=mask(0, 1, 2, 3)))
    norm = lambda arrays: float(np.sqrt(sum(np.square(np.float64(x)).sum() for x in jax.tree.leaves(arrays))))
    found = dict(loss=float(loss), log_weight=np.float64(log_weight).tolist(), gradient=norm(grads))
    found |= dict(latents=norm([x.value for x in trace.latents]), new_image=norm(trace.px.log_prob(images())[:, 3]))
    return found


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: numbers(name) for name in FAMILY}, indent=1) + "\n")
