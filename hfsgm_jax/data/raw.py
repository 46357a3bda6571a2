"""What a source returns."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass
class Raw:
    """Images of a source, in any order, before they are resized.

    Attributes:
      images: n arrays ``[H, W, C]`` uint8 (or float32, never resized), ink or foreground high; perhaps read only
        when asked for.
      labels: ``[n]`` int, the class of each image.
      groups: ``[n]`` int, the group (alphabet) of each image's class, or None.
      parts: ``[n]`` int, the official part: 0 training, 1 validation, 2 test; None: all 0.
      info: facts to record with every result, JSON types.
    """

    images: Sequence[np.ndarray]
    labels: np.ndarray
    groups: np.ndarray | None = None
    parts: np.ndarray | None = None
    info: dict[str, Any] = dataclasses.field(default_factory=dict)
