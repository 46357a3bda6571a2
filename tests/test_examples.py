"""The example script runs from a folder of images to pictures."""

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


def test_own_images(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "examples.own_images", "--quick", f"--workdir={folder}"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(list((folder / "images").glob("*/*.png"))) == 20 * 10
    assert Image.open(folder / "new_images.png").size[0] > Image.open(folder / "imagined.png").size[0]
    lines = done.stdout.splitlines()
    assert sum("is named character_" in line for line in lines) == 2
    assert sum(line.startswith("log p(five images of character_") for line in lines) == 2
    assert lines[-1].startswith("most alike to the model: character_")
