"""A model's variables as plain bytes: small files that need neither Orbax nor pickle to be read.

A folder of them holds ``weights.json`` and ``weights.0.bin``, ``weights.1.bin`` … The JSON has the training `step`, the
`dtype` of all arrays, the `files` with their `bytes` and `sha256`, and the `arrays` in order: path, joined by "/", and
shape. The files, one after another, are the arrays' bytes, one after another: little endian, in C order, without gaps.
"""

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

MANIFEST = "weights.json"
FORMAT = "hfsgm_jax weights 1"
DTYPES = ("bfloat16", "float32")
FILE_BYTES = 15 * 2**20  # largest file; many places refuse larger ones


class WeightsError(ValueError):
    """A folder of weights cannot be read, or not written as asked; the message says why."""


def write_weights(
    folder: str | os.PathLike,
    variables: dict[str, Any],
    step: int,
    dtype: str = "bfloat16",
    file_bytes: int = FILE_BYTES,
) -> list[Path]:
    """Writes nested dictionaries of float arrays; returns the paths written, the manifest last.

    Args:
      folder: made if need be.
      step: training step that they are of.
      dtype: what they are rounded to, ``bfloat16`` (8 bits of precision, half the size) or ``float32``.
      file_bytes: largest size of a file.

    Raises:
      WeightsError: another dtype.
    """
    if dtype not in DTYPES:
        raise WeightsError(f"dtype is {' or '.join(DTYPES)}, not {dtype!r}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)  # nobody takes old weights for new ones if this is interrupted
    leaves = {"/".join(path): np.asarray(leaf) for path, leaf in _leaves(variables)}
    stream = b"".join(leaf.astype(jnp.dtype(dtype)).tobytes() for leaf in leaves.values())
    files = []
    for number, start in enumerate(range(0, len(stream), file_bytes)):
        part = stream[start : start + file_bytes]
        name = f"weights.{number}.bin"
        (folder / name).write_bytes(part)
        files.append({"name": name, "bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()})
    arrays = {path: leaf.shape for path, leaf in leaves.items()}
    manifest = {"format": FORMAT, "step": int(step), "dtype": dtype, "files": files, "arrays": arrays}
    temporary = folder / f"{MANIFEST}.tmp"
    temporary.write_text(json.dumps(manifest) + "\n")
    os.replace(temporary, folder / MANIFEST)
    return [*(folder / file["name"] for file in files), folder / MANIFEST]


def has_weights(folder: str | os.PathLike) -> bool:
    """Whether the folder is one that `write_weights` wrote."""
    return (Path(folder) / MANIFEST).is_file()


def read_weights(folder: str | os.PathLike) -> tuple[dict[str, Any], int, str]:
    """``(variables, step, dtype)`` of a folder that `write_weights` wrote: float32 arrays, what they were rounded to.

    Raises:
      WeightsError: a file is missing, altered or of another format; names it.
    """
    folder = Path(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["format"] != FORMAT:
            raise WeightsError(
                f"{folder / MANIFEST} is of format {manifest['format']!r}, this version reads {FORMAT!r}"
            )
        stream = b"".join(_part(folder, file) for file in manifest["files"])
        dtype = jnp.dtype(manifest["dtype"])
        variables: dict[str, Any] = {}
        start = 0
        for path, shape in manifest["arrays"].items():
            count = math.prod(shape)
            values = np.frombuffer(stream, dtype, count, start).reshape(shape)
            start += count * dtype.itemsize
            _put(variables, path.split("/"), values.astype(np.float32))
        return variables, int(manifest["step"]), dtype.name
    except WeightsError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"the weights in {folder} cannot be read: {error}") from error


def _part(folder: Path, file: dict[str, Any]) -> bytes:
    """The bytes of one file, checked. Its name is not trusted to stay in the folder."""
    path = folder / Path(file["name"]).name
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != file["sha256"]:
        raise WeightsError(
            f"{path} is not the file that was written ({len(data)} of {file['bytes']} bytes): copy it again"
        )
    return data


def _leaves(tree: dict[str, Any], path: tuple[str, ...] = ()):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _put(tree: dict[str, Any], path: list[str], value: np.ndarray) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value
