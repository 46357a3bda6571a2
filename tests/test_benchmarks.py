"""Every benchmark measures something finite, results are kept, the page is what the files make. No timing."""

import dataclasses
import json
import math
import subprocess

import jax
import numpy as np
import pytest
from tiny_model import tiny_config

from benchmarks import common, importance_sampling, matrix, runner, sampling, standard, train_step, weak_scaling
from benchmarks import data as data_benchmark
from hfsgm_jax import data, mesh
from hfsgm_jax.config import ConfigError
from hfsgm_jax.training.prepare import resolve
from scripts import benchmark, benchmarks_page, one_dim_study
from scripts.machine import commit


def assert_measured(result, *names):
    """All named are numbers above 0; medians lie between their quartiles."""
    for name in names:
        assert math.isfinite(result[name]) and result[name] > 0, name
        if f"{name}_quartiles" in result:
            low, high = result[f"{name}_quartiles"]
            assert low <= result[name] <= high
    json.dumps(result)


def quick_config():
    """A model of single numbers, which compiles soonest: what is timed is the same."""
    config = one_dim_study.load_config("gaussian", "ns", 3)
    config.data.sets_per_batch = 4
    config.train.update(steps=3, devices=1)
    config.eval.update(sets_per_batch=4, chunk=2)
    return config


def vhe_config():
    """A tiny model with an autoregressive decoder, whose targets are drawn apart."""
    config = tiny_config()
    config.model.update(name="pixelcnn_vhe", width=4, c_channels=1, z_channels=2, blocks=1, context_kernel=3)
    config.model.update(pixelcnn_layers=1, pixelcnn_width=4, prior_width=4)
    config.objective.update(name="vhe", targets=1)
    return config


@pytest.fixture(scope="module")
def step():
    return common.build_step(quick_config())


def test_train_step(monkeypatch, step):
    monkeypatch.setattr(common, "build_step", lambda config: step)
    result = train_step.measure(quick_config(), steps=3, seconds=0.0)
    rates = "images_per_second", "model_flops_per_second", "matmul_flops_per_second", "share_of_peak"
    assert_measured(result, *rates, "compile_seconds", "peak_memory_gib", "program_memory_gib", "train_nelbo_after")
    assert result["images_per_step"] == 12 and result["timed_steps"] == 3 and result["devices"] == 1
    assert result["share_of_peak"] == result["model_flops_per_second"] / result["matmul_flops_per_second"]


def test_flops_are_of_one_step_of_the_whole_batch(step):
    """However many steps a dispatch has, parts a batch and devices there are."""

    class Lowered:
        def __init__(self, flops):
            self.flops = flops

        def cost_analysis(self):
            return {"flops": self.flops}

    config = step.config.copy_and_resolve_references()
    config.train.steps_per_dispatch, config.optimizer.accumulate = 3, 2
    seen = []

    def lower(config):
        seen.append((config.train.steps_per_dispatch, config.optimizer.accumulate))
        return Lowered(7.0)

    assert common.step_flops(config, Lowered(40.0), lower) == 7 and seen == [(1, 1)]
    assert common.step_flops(step.config, Lowered(5.0), lower) == 5 and len(seen) == 1
    assert config.train.steps_per_dispatch == 3


def test_objectives_with_parameters_are_refused_before_any_work():
    config = tiny_config()
    config.objective.update(name="vhe", tightened=True)
    with pytest.raises(ConfigError, match="tightened"):
        common.build_step(config)


def vae_config():
    """A tiny model without latents that a set shares."""
    config = tiny_config()
    config.model.update(name="vae", width=4, layers=1, blocks=1, z_channels=2)
    return config


@pytest.mark.parametrize("make_config, mode", [(vae_config, "unconditional"), (vhe_config, "conditional")])
def test_sampling(make_config, mode):
    result = sampling.measure(make_config(), sets=2, set_size=2, num=2, repeat=3, seconds=0.0)
    assert_measured(result, "images_per_second", "milliseconds_per_image", "compile_seconds", "program_memory_gib")
    assert result["mode"] == mode and result["parameters"] > 0
    assert result["milliseconds_per_image"] == pytest.approx(1e3 * result["seconds_per_call"] / 4)


def test_importance_sampling():
    result = importance_sampling.measure(quick_config(), sets=2, set_size=2, samples=4, repeat=1)
    assert_measured(result, "sample_images_per_second", "peak_memory_gib")


def test_data(monkeypatch, step):
    monkeypatch.setattr(common, "build_step", lambda config: step)
    result = data_benchmark.measure(quick_config(), steps=3, train_steps=3, seconds=0.0)
    assert_measured(result, "device_sets_per_second", "step_sets_per_second", "device_ratio")
    assert "streamed_ratio" not in result  # what is generated is not read from a disk


@dataclasses.dataclass(frozen=True)
class OnDisk:
    """What `StreamedImages` reads from."""

    images: np.ndarray

    def __len__(self):
        return len(self.images)

    def take(self, index):
        return list(self.images[index])


def test_streamed_data(step):
    dataset = data.load_dataset(tiny_config().data, "train")
    dataset.images = data.StreamedImages(OnDisk(dataset.images), "box", 28, 1)
    config = resolve(tiny_config(), dataset)
    times = data_benchmark.streamed_times(dataset, config, step.mesh, jax.random.key(0), steps=3, seconds=0.0)
    assert times.shape == (3,) and (times > 0).all()
    assert not config.data.stream


def test_weak_scaling(monkeypatch):
    built = []

    def build(config):
        built.append((config.train.devices, config.data.sets_per_batch))
        return common.TrainStep(config, *[None] * 7, program_bytes=2**30, **dict.fromkeys(SECONDS, 1.0))

    SECONDS = "data_seconds", "trace_seconds", "compile_seconds"
    monkeypatch.setattr(common, "build_step", build)
    # Twice the images in one and a half times the time.
    monkeypatch.setattr(weak_scaling, "time_step", lambda step, *_: (np.full(3, built[-1][0] ** 0.585), built[-1][1]))
    config = tiny_config()
    config.train.devices = 3
    result = weak_scaling.measure(config, rows=2)
    assert built == [(1, 2), (2, 4), (3, 6)]
    assert [p["efficiency"] for p in result["points"]] == pytest.approx([1, 1 / 2**0.585, 1 / 3**0.585])
    assert weak_scaling.counts(1) == [1] and weak_scaling.counts(8) == [1, 2, 4, 8]


def test_times_are_of_single_calls():
    calls = []
    times = common.seconds_per_call(lambda: calls.append(0) or jax.numpy.zeros(()), calls=12, seconds=1e9)
    assert len(calls) >= 14 and len(times) >= 3 and (times > 0).all()
    assert common.rates(6.0, np.array([1.0, 2.0, 3.0]), "r") == {"r": 3.0, "r_quartiles": [2.5, 4.5]}


def test_matmul_peak_uses_the_whole_mesh():
    assert common.matmul_peak(mesh.make_mesh(2), "bfloat16") > 0


def test_matrix_has_every_combination():
    axes = {"batches": ["4", "16"], "dtypes": ["bfloat16"], "devices": ["1", "2"]}
    items = matrix.items(["quickstart", "cpu_vhe:ns"], axes, ("--steps=3",))
    assert len({item.name for item in items}) == 8
    assert items[0].name == "train_step_quickstart_b4_bfloat16_d1"
    assert items[-1].arguments == (
        "--config=configs/cpu_vhe.py:ns",
        "--config.data.sets_per_batch=16",
        "--config.model.dtype=bfloat16",
        "--devices=2",
        "--steps=3",
    )
    assert [item.name for item in matrix.items(["quickstart"], {})] == ["train_step_quickstart"]


@pytest.mark.parametrize("wrong", ["--configs=quickstrat", "--batch=4"])
def test_matrix_refuses_what_it_does_not_know(wrong, monkeypatch, capsys):
    monkeypatch.setattr(matrix, "run", lambda *_: pytest.fail("measures"))
    with pytest.raises(SystemExit):
        matrix.main(["--configs=quickstart", wrong])
    assert wrong.removeprefix("--configs=") in capsys.readouterr().err


def test_standard_measurements_are_distinct_and_exist():
    items = standard.items()
    assert len({item.name for item in items}) == len(items)
    assert {item.kind for item in items} | {"torch_peer"} == set(benchmarks_page.KINDS)  # which needs PyTorch
    for item in items:
        config = item.arguments[0].removeprefix("--config=").partition(":")[0]
        assert (runner.ROOT / config).exists() and (runner.ROOT / "benchmarks" / f"{item.kind}.py").exists()


def test_results_of_the_same_commit_and_command_are_kept(monkeypatch, tmp_path, capsys):
    measured = []

    def measure(item, path):
        measured.append(item.name)
        if item.name == "bad":
            return "broken"
        path.write_text(json.dumps({"command": benchmark.command(item.kind, list(item.arguments)), "commit": commit()}))

    monkeypatch.setattr(runner, "_measure", measure)
    good, bad = runner.Item("good", "data", ("--steps=1",)), runner.Item("bad", "data", ())
    if commit() is None:
        pytest.skip("not a clone")
    assert runner.run([good, bad], tmp_path) == ["bad"] and measured == ["good", "bad"]
    assert runner.run([good], tmp_path) == [] and measured == ["good", "bad"]
    assert runner.run([good], tmp_path, again=True) == [] and measured[2:] == ["good"]
    other = dataclasses.replace(good, arguments=("--steps=2",))
    assert runner.run([other], tmp_path) == [] and measured[3:] == ["good"]
    monkeypatch.setattr(runner, "commit", lambda: "another")
    assert runner.run([other], tmp_path) == [] and measured[4:] == ["good"]
    assert runner.run([good], tmp_path, minutes=1e-9) == ["good"] and measured[5:] == []
    assert "broken" in capsys.readouterr().out


def test_a_commit_with_changes_is_told_apart(monkeypatch, tmp_path):
    def git(*arguments):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=tmp_path, check=True)

    monkeypatch.setattr("scripts.machine.ROOT", tmp_path)
    assert commit() is None
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "--message=first")
    clean = commit()
    assert clean and not clean.endswith("+")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "a.json").write_text("written")
    assert commit() == clean
    (tmp_path / "new.py").write_text("not added")
    assert commit() == clean + "+"


def test_commands_name_no_places():
    arguments = ["--config=configs/a.py", "--config.data.data_dir=/here", "--steps=3", "--out=/there/a.json"]
    assert benchmark.command("data", arguments) == "python -m benchmarks.data --config=configs/a.py --steps=3"


def test_page_is_what_the_results_make():
    rendered = benchmarks_page.render(benchmarks_page.load())
    assert benchmarks_page.PAGE.read_text() == rendered, "if the results have changed: make bench"


def test_page_has_a_table_per_kind_and_machine(tmp_path):
    machine = dict(cpu="A", cores=2, device="cpu", platform="cpu", python="3.11", jax="0.10", commit="abc", date="d")
    rate = dict(images_per_second=51.26, images_per_second_quartiles=[50.0, 52.0], set_size=[2, 5], devices=1)
    old = {**rate, "config": "configs/a.py", "overrides": {"model.width": 8}, "sets_per_batch": 4, **machine}
    points = [{"devices": 1, "efficiency": 1.0, **rate}, {**rate, "devices": 2, "efficiency": 0.5}]
    scaling = {"kind": "weak_scaling", "config": "configs/a.py", "points": points, **machine, "cpu": "B"}
    variants = {"eager": {"speed": 1234.5}, "compiled": {"speed": 0.01234}}
    peer = {"kind": "new_kind", "note": "a|b", "sizes": {"rows": 3}, "variants": variants, **machine}
    for name, content in {"old": old, "gpu/scaling": scaling, "peer": peer}.items():
        path = tmp_path / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    page = benchmarks_page.render(benchmarks_page.load(tmp_path))
    assert page.count("\nOn ") == 3 and "On B, 2 cores" in page
    assert "| `a` `model.width=8` | 4 × 2, 5 | 1 | 51.3 [50, 52] | abc | d |" in page  # a file without kind
    assert "| 2 | 51.3 [50, 52] | 50% | abc | d |" in page
    peer_part = page[page.index("## New kind") :]
    assert "note a\\|b, sizes.rows 3" in peer_part
    assert "| eager | 1,234 |" in peer_part and "| compiled | 0.0123 |" in peer_part


@pytest.mark.parametrize("content", ["{", "[]"])
def test_page_names_files_that_are_no_results(content, tmp_path):
    (tmp_path / "odd.json").write_text(content)
    with pytest.raises(ValueError, match="odd.json"):
        benchmarks_page.load(tmp_path)
