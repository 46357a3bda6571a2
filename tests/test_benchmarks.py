"""Every benchmark measures something finite, results are kept, the page is what the files make. No timing."""

import json
import math
import subprocess

import jax
import numpy as np
import pytest
from tiny_model import tiny_config

import hfsgm_jax
from benchmarks import measure, run, timing
from scripts import benchmarks_page, readme
from scripts.machine import ROOT, commit

STEP = {"seconds_per_step": 2.0, "sets_per_batch": 4, "set_size": 3, "dtype": "float32", "devices": 1}


def assert_measured(result, *names):
    """All named are numbers above 0; medians lie between their quartiles."""
    for name in names:
        assert math.isfinite(result[name]) and result[name] > 0, name
        if f"{name}_quartiles" in result:
            low, high = result[f"{name}_quartiles"]
            assert low <= result[name] <= high
    json.dumps(result)


def config_of(model, **keywords):
    """A tiny training of another model."""
    config = tiny_config()
    config.model = hfsgm_jax.default_config(model).model
    config.model.update(width=4, z_channels=2, **keywords)
    return config


def tiny_vae_config():
    return config_of("vae", layers=1, blocks=1)


@pytest.fixture(scope="module")
def tiny_run():
    return hfsgm_jax.setup(tiny_vae_config())


def test_train_step(monkeypatch, tiny_run):
    monkeypatch.setattr(measure, "setup", lambda config: tiny_run)
    monkeypatch.setattr(timing, "matmul_peak", lambda *_: 1e12)
    (result,) = measure.train_step(tiny_vae_config(), steps=3, seconds=0.0)
    rates = "images_per_second", "model_flops_per_second", "matmul_flops_per_second", "share_of_peak"
    assert_measured(result, *rates, "compile_seconds", "peak_memory_gib", "program_memory_gib", "train_nelbo_after")
    assert result["images_per_second"] == pytest.approx(12 / result["seconds_per_step"]) and result["devices"] == 1


def test_flops_are_of_one_step_of_the_whole_batch(tiny_run):
    """However many steps a dispatch has and parts a batch."""
    config, lowered = tiny_vae_config(), tiny_run.step.lower(tiny_run.abstract_state, next(tiny_run.batches(0)))
    flops = measure.step_flops(config, lowered)
    config.train.steps_per_dispatch, config.optimizer.accumulate = 2, 2
    assert measure.step_flops(config, None) == flops > 1e6


def test_weak_scaling(monkeypatch):
    def step(config, steps, seconds):
        devices = config.train.devices
        seen.append(config.data.sets_per_batch)
        yield {"devices": devices, "images_per_second": devices**0.5}

    seen, config = [], tiny_config()
    config.train.devices = 3
    monkeypatch.setattr(measure, "train_step", step)
    efficiency = [record["efficiency"] for record in measure.weak_scaling(config, rows=2)]
    assert seen == [2, 4, 6] and efficiency == pytest.approx([1, 0.5**0.5, 3**-0.5])


def test_sampling():
    (result,) = measure.sampling(tiny_vae_config(), sets=2, set_size=2, num=2, repeat=3, seconds=0.0)
    assert_measured(result, "images_per_second", "milliseconds_per_image", "compile_seconds", "program_memory_gib")
    assert result["milliseconds_per_image"] == pytest.approx(1e3 / result["images_per_second"])


def test_importance_sampling():
    (result,) = measure.importance_sampling(tiny_vae_config(), sets=2, set_size=2, samples=4, repeat=1, seconds=0.0)
    assert_measured(result, "sample_images_per_second", "peak_memory_gib", "parameters")


def test_times_are_of_single_calls():
    calls = []
    times = timing.seconds_per_call(lambda: calls.append(0) or jax.numpy.zeros(()), calls=12, seconds=1e9)
    assert len(calls) >= 14 and len(times) >= 3 and (times > 0).all()
    assert timing.rates(6.0, np.array([1.0, 2.0, 3.0]), "r") == {"r": 3.0, "r_quartiles": [2.5, 4.5]}


@pytest.mark.parametrize("name", ["standard", "accelerator"])
def test_lists_have_commands_of_what_exists(name):
    for case in run.read_list(ROOT / "benchmarks" / f"{name}.txt").values():
        kind, config, *_ = case.split()
        assert kind in measure.KINDS and (ROOT / config.removeprefix("--config=").partition(":")[0]).exists()


def test_a_list_is_measured_and_kept(monkeypatch, tmp_path, capsys):
    """The real program, on what measures soonest; then again, with another command, at another commit."""
    cases = tmp_path / "list.txt"
    cases.write_text("# nothing\nok: probe --config=configs/quickstart.py\nbad: probe --config=configs/none.py\n")
    assert run.main([str(cases), f"--out={tmp_path}"]) == 1
    assert "none.py" in capsys.readouterr().out and not (tmp_path / "bad.json").exists()
    result = json.loads((tmp_path / "ok.json").read_text())
    assert result["command"] == "python -m benchmarks.measure probe --config=configs/quickstart.py"
    assert result["records"][0]["data"].keys() == {"train", "val", "test"} and result["commit"] == commit()
    monkeypatch.setattr(run, "measure", lambda case, path, minutes: ran.append(case))
    monkeypatch.setattr(run, "commit", lambda: result["commit"])
    ran, result["commit"] = [], "abc"
    (tmp_path / "ok.json").write_text(json.dumps(result))
    again = [str(cases), f"--out={tmp_path}", "--only=ok"]
    assert run.main(again) == 0 and not ran
    assert not run.measured(tmp_path / "ok.json", "probe --config=configs/quickstart.py --x=1")
    monkeypatch.setattr(run, "commit", lambda: "def")
    assert run.main([*again, "--minutes=1e-9"]) == 1 and not ran
    assert run.main(again) == 0 and len(ran) == 1


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
    assert measure.command("probe", arguments) == "python -m benchmarks.measure probe --config=configs/a.py --steps=3"


def test_page_is_what_the_results_make():
    rendered = benchmarks_page.render(benchmarks_page.load())
    assert readme.part("benchmarks") == rendered, "if the results have changed: make bench"
    assert benchmarks_page.KINDS.keys() == measure.KINDS.keys() - {"probe"}


def test_page_has_a_table_per_kind_and_machine(tmp_path):
    machine = dict(cpu="A", cores=2, device="cpu", platform="cpu", python="3.11", jax="0.10", xla_flags="")
    machine |= dict(config="configs/a.py", command="weak_scaling", commit="abc", date="d")
    rate = dict(images_per_second=51.26, images_per_second_quartiles=[50.0, 52.0], set_size=[2, 5], sets_per_batch=4)
    step = {"kind": "train_step", "records": [rate], **machine, "command": "train_step --config.model.width=8"}
    points = [{"devices": 1, "efficiency": 1.0, **rate}, {**rate, "devices": 2, "efficiency": 0.5}]
    scaling = {"kind": "weak_scaling", "records": points, **machine, "cpu": "B"}
    variants = {"eager": 1.2345, "compile": 0.00001234}
    records = [{"name": name, "cpu_seconds_per_image": seconds} for name, seconds in variants.items()]
    peer = {"kind": "torch_peer", "records": records, **machine, "sets_per_batch": 1, "set_size": 1}
    (tmp_path / "gpu").mkdir()
    for name, content in {"step": step, "gpu/scaling": scaling, "peer": peer}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    page = benchmarks_page.render(benchmarks_page.load(tmp_path))
    assert page.count("\nOn ") == 3 and "On B, 2 cores" in page
    assert "| `a` `model.width=8` | 4 × 2, 5 | 51.3 [50, 52] | abc | d |" in page
    assert "| 2 | 51.3 [50, 52] | 50% | abc | d |" in page
    assert "| eager | 1,234 |" in page and "| compile | 0.0123 |" in page
