"""Plain files of weights: what is written is read, what is altered is refused."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from hfsgm_jax.weights import MANIFEST, WeightsError, read_weights, write_weights


def variables():
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    return {"params": {"a": {"kernel": normal(3, 5), "bias": normal(5)}, "scale": normal()}, "stats": {"m": normal(0)}}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_written_is_read(tmp_path, dtype):
    """Also where a file ends within an array."""
    given = variables()
    paths = write_weights(tmp_path, given, 7, dtype, file_bytes=30)
    size = 21 * jnp.dtype(dtype).itemsize
    assert [path.stat().st_size for path in paths[:-1]] == [30] * (size // 30) + [size % 30]
    read, step, rounded = read_weights(tmp_path)
    assert (step, rounded) == (7, dtype) and read["params"].keys() == given["params"].keys()
    for name, value in (*given["params"]["a"].items(),):
        np.testing.assert_array_equal(read["params"]["a"][name], value.astype(jnp.dtype(dtype)).astype(np.float32))
    assert read["params"]["scale"].shape == () and read["stats"]["m"].shape == (0,)
    assert read["params"]["scale"].dtype == np.float32


def test_altered_files_are_refused(tmp_path):
    first, second, manifest = write_weights(tmp_path, variables(), 7, "float32", file_bytes=60)
    data = bytearray(second.read_bytes())
    data[3] ^= 1
    second.write_bytes(data)
    with pytest.raises(WeightsError, match="weights.1.bin is not the file"):
        read_weights(tmp_path)
    second.unlink()
    with pytest.raises(WeightsError, match="cannot be read.*weights.1.bin"):
        read_weights(tmp_path)
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": "other 2"}))
    with pytest.raises(WeightsError, match="'other 2'"):
        read_weights(tmp_path)


def test_files_outside_the_folder_are_not_read(tmp_path):
    (tmp_path / "secret").write_bytes(b"1234")
    write_weights(tmp_path / "w", {"a": np.ones(1, np.float32)}, 1, "float32")
    manifest = tmp_path / "w" / MANIFEST
    manifest.write_text(manifest.read_text().replace("weights.0.bin", "../secret"))
    with pytest.raises(WeightsError, match="w/secret"):
        read_weights(tmp_path / "w")


def test_another_dtype_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="bfloat16 or float32, not 'int8'"):
        write_weights(tmp_path / "w", variables(), 1, "int8")
    assert not (tmp_path / "w").exists()
