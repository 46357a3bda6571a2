"""A model's weights in a folder: what is written is read, what is altered is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hfsgm_jax
from hfsgm_jax import models
from hfsgm_jax.errors import CheckpointError, ConfigError
from hfsgm_jax.run_folder import config_of, export, open_run, read_metrics, save_weights


@pytest.fixture(scope="module")
def model():
    return models.vae(width=8, encoder_width=4, layers=1, blocks=1, z_channels=2)


@pytest.fixture(scope="module")
def variables(model):
    keys, sets = (
        {"params": jax.random.key(0), "sample": jax.random.key(1)},
        hfsgm_jax.Sets.of(jnp.zeros((1, 1, 28, 28, 1))),
    )
    shapes = jax.eval_shape(lambda: model.init(keys, sets))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)


def save(folder, model, variables, *args):
    return save_weights(folder, config_of(model), variables, *args)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_written_is_read(model, variables, dtype, tmp_path):
    paths = save(tmp_path, model, variables, 7, dtype)
    assert [path.name for path in paths] == ["config.json", "weights.msgpack", "files.json"]
    run = open_run(tmp_path)
    assert (run.model, run.step, run.weights, run.config.image_shape) == (model, 7, dtype, (28, 28, 1))
    assert (run.config.model.width, run.config.data.source) == (8, "arrays")
    for read, given in zip(jax.tree.leaves(run.variables), jax.tree.leaves(variables), strict=True):
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, given.astype(jnp.dtype(dtype)).astype(np.float32))
    with pytest.raises(CheckpointError, match="the weights of step 7 only, not of 3"):
        open_run(tmp_path, 3)


def test_altered_files_are_refused(model, variables, tmp_path):
    config, weights, manifest = save(tmp_path, model, variables)
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    with pytest.raises(CheckpointError, match="weights.msgpack does not have the bytes that were written"):
        open_run(tmp_path)
    weights.unlink()
    with pytest.raises(CheckpointError, match="cannot be read: weights.msgpack is missing"):
        open_run(tmp_path)
    weights.write_bytes(whole)
    manifest.write_text("[1]")
    with pytest.raises(CheckpointError, match="cannot be read: files.json"):
        open_run(tmp_path)
    save(tmp_path, model, variables)
    config.write_text(config.read_text().replace('"width": 8', '"width": 16'))
    with pytest.raises(CheckpointError, match="variables are not of the model .* expected to generate shape"):
        hfsgm_jax.load(tmp_path).generate(None, mode="unconditional")


def test_an_exported_run_is_opened_as_the_run(run_folder, tmp_path):
    files = export(run_folder, tmp_path / "out", dtype="float32")
    assert sum(path.stat().st_size for path in files) < sum(
        p.stat().st_size for p in run_folder.rglob("*") if p.is_file()
    )
    run, exported = open_run(run_folder), open_run(tmp_path / "out")
    assert (exported.step, exported.model) == (run.step, run.model) and exported.config.data.data_dir is None
    assert jax.tree.all(jax.tree.map(np.array_equal, dict(run.variables), exported.variables))
    with pytest.raises(ConfigError, match="is the folder of a run; export into another one"):
        export(run_folder, run_folder)
    with pytest.raises(ConfigError, match="dtype='int8' is not one of bfloat16, float32"):
        export(run_folder, tmp_path / "other", dtype="int8")
    assert not (tmp_path / "other").exists()


def test_overrides_and_folders_that_are_no_runs(run_folder, tmp_path):
    assert open_run(run_folder, overrides={"eval.max_sets": 3}).config.eval.max_sets == 3
    with pytest.raises(ConfigError, match="did you mean 'eval.max_sets'"):
        open_run(run_folder, overrides={"eval.max_set": 3})
    with pytest.raises(ConfigError, match="is not the folder of a run"):
        open_run(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model": {"name": "vae"}}))
    with pytest.raises(ConfigError, match="image_shape"):
        open_run(tmp_path)
    assert read_metrics(tmp_path) == []
    good = '{"step": 1, "images": 2, "loss": "nan"}'
    (tmp_path / "metrics.jsonl").write_text(good + '\n\xff\n{"ste')
    assert read_metrics(tmp_path) == [{"step": 1, "images": 2, "loss": "nan"}]
