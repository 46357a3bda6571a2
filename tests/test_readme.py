"""The README's own loop runs from any folder; the page of keys is that of the table."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from scripts import readme

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_own_loop_runs_from_any_folder(tmp_path):
    (code,) = re.findall(r"<!-- own_loop:begin -->\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(code.splitlines()) <= 25
    code = code.replace("8-2,4-2,1-1", "8-1").replace("8-2", "8-1").replace("width=64", "width=8")  # compiles faster
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 2, (3, 4, 28, 28, 1)).astype(np.float32))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0 and len(list((tmp_path / "my_model").iterdir())) == 3


def test_the_page_of_keys_is_up_to_date():
    code = "from scripts import keys; print(keys.page(), end='')"  # here other tests may have added to the tables
    page = subprocess.run([sys.executable, "-c", code], cwd=README.parent, capture_output=True, text=True, check=True)
    assert readme.part("keys") == page.stdout.strip("\n"), "run: make keys"
