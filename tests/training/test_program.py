"""The command line of train.py: flags, config files, and errors that are one sentence."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hfsgm_jax.config import ConfigError, check_config, default_config
from hfsgm_jax.programs import train as program

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
import hfsgm_jax

def get_config(model="vae"):
    return hfsgm_jax.default_config(model)
"""


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "experiment.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def called(monkeypatch):
    """The arguments that `train` was called with."""
    calls = []

    class Summary:
        ended_by = "steps"

    monkeypatch.setattr(program, "train", lambda *args: calls.append(args) or Summary)
    return calls


@pytest.fixture
def command(tmp_path, capfd):
    """Runs train.py in this process: exit status (None: done) and what it said."""

    def run(*arguments):
        try:
            program.main([*arguments, f"--workdir={tmp_path / 'run'}"])
            status = None
        except SystemExit as end:
            status = end.code
        return status, capfd.readouterr().err

    return run


def test_flags_become_the_config(config_file, called, command, tmp_path):
    more = ["--config.model.width=8", "--config.data.set_size=(2,5)", "--config.train.minutes=1.5"]
    assert command(f"--config={config_file}:ns", *more, "--config.data.path=x") == (None, "")
    ((config, workdir),) = called
    assert (config.model.name, config.model.width, config.data.set_size) == ("ns", 8, (2, 5))
    assert (config.train.minutes, config.data.path, workdir) == (1.5, "x", str(tmp_path / "run"))


def test_a_dry_run_trains_nothing(config_file, called, command, monkeypatch, tmp_path):
    monkeypatch.setattr(program, "setup", lambda config: config.model.width)
    monkeypatch.setattr(program, "dry_run", lambda width: print(f"width {width}", file=sys.stderr))
    assert command(f"--config={config_file}", "--config.model.width=8", "--dry_run") == (None, "width 8\n")
    assert not called and not (tmp_path / "run").exists()


def test_with_another_model_come_its_keys(config_file, called, command):
    assert command("--config", str(config_file), "--config.model.name=scha_vae", "--config.model.patch=4") == (None, "")
    config = called[0][0]
    assert config.model.patch == 4 and config.model.keys() == default_config("scha_vae").model.keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--config.model.widht=3"],
            "key 'model.widht' of model.name='vae'; did you mean 'model.width'?",
        ),
        (["--config.train.stesp=3"], "did you mean 'train.steps'?"),
        (["--config.model.name=scha"], "did you mean 'scha_vae'"),
        (["--config.data.source=omniglott"], "did you mean 'omniglot'"),
        (["--config.data.set_size=words"], "data.set_size='words' is not a whole number above 0, or (low, high)"),
        (["--config.data.set_size=(1,2,3)"], "data.set_size"),
        (["--config.seed=-1"], "seed=-1"),
        (["--config.optimizer.learning_rate=inf"], "optimizer.learning_rate='inf' is not a finite number"),
        (["--config.train.steps=many"], "train.steps"),
        (["--step=3"], "unknown argument '--step=3'"),
        (["--config.seed", "3"], "unknown argument '--config.seed'"),
        (["surplus"], "unknown argument 'surplus'; keys are set by --config.SECTION.KEY=VALUE"),
        (["--num_processes=2"], "--num_processes and --process_id go with one of HOST:PORT"),
    ],
)
def test_errors_of_the_command_line_are_one_message(arguments, message, config_file, command, tmp_path):
    status, said = command(f"--config={config_file}", *arguments)
    assert status == 2 and message in said and "train.py: " in said and "Traceback" not in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "AttributeError: module 'config_file' has no attribute 'get_config'"),
        ("def get_config():\n    return 3\n", "returned 3, not an ml_collections.ConfigDict"),
        ("import nothing_like_it\n", "experiment.py, line 1: ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("\ndef get_config(:\n", "experiment.py, line 2: SyntaxError"),
        ("def get_config():\n    return {}['key']\n", "experiment.py, line 2: KeyError: 'key'"),
        ("def get_config(a, b):\n    pass\n", "TypeError: get_config() missing 2 required positional arguments"),
    ],
)
def test_errors_of_a_config_file_name_its_line(text, message, config_file, command):
    config_file.write_text(text)
    status, said = command(f"--config={config_file}")
    assert status == 2 and message in said and "Traceback" not in said


def test_a_config_file_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="nothing.py is not a Python file"):
        program.load_config_file("configs/nothing.py:text", {})


def test_own_images_are_looked_at_where_the_command_says(tmp_path, capsys):
    """get_config gets the keys it has keywords for."""
    pixels = np.linspace(0, 255, 40 * 40 * 3).reshape(40, 40, 3).astype(np.uint8) * np.array([1, 0, 1], np.uint8)
    for k in range(4):
        (tmp_path / str(k)).mkdir()
        for i in range(3):
            Image.fromarray(pixels).save(tmp_path / str(k) / f"{i}.png")
    given = {"data.path": str(tmp_path), "train.minutes": "2"}
    config = program.load_config_file("configs/own_images.py", given)
    check_config(config)
    assert (config.model.name, config.data.channels, config.data.image_size) == ("ns", 3, 32)
    assert (config.data.set_size, config.train.minutes) == (3, 2.0)
    said = capsys.readouterr().out
    assert "12 images of 4 classes, 3 in the smallest, 40 pixels: colour photographs" in said
    assert "model ns of width 64; memory about 1.4 GiB" in said
    with pytest.raises(ConfigError, match="data.image_size=40.*32 and 64"):
        program.load_config_file("configs/own_images.py", given | {"data.image_size": "40"})


def test_as_a_program_it_ends_with_a_sentence(config_file, tmp_path):
    (tmp_path / "run").write_text("")
    command = [sys.executable, "train.py", f"--config={config_file}", f"--workdir={tmp_path / 'run'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{tmp_path / 'run'} cannot be a folder" in done.stderr.splitlines()[-1]
