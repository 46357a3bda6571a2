"""The notebook runs from top to bottom."""

import json
from pathlib import Path

import numpy as np

TOUR = Path(__file__).resolve().parents[1] / "examples" / "tour.ipynb"


def test_the_tour(run_folder):
    """With a tiny model in the place of the one that comes with the library, which compiles for a minute."""
    cells = [cell for cell in json.loads(TOUR.read_text())["cells"] if cell["cell_type"] == "code"]
    quick = {
        "STEPS = 60": "STEPS = 2",
        "8-1,1-1": "8-1",
        "width=32": "width=8",
        "num=8": "num=2",
        "num_samples=20": "num_samples=2",
    }
    quick |= {'"omniglot"': repr(str(run_folder)), "shown)), query)": "shown)), query, num_samples=2, num_samples_z=2)"}
    names = {}
    for cell in cells:
        source = "".join(cell["source"])
        for long, short in quick.items():
            source = source.replace(long, short)
        exec(compile(source, str(TOUR), "exec"), names)
    assert len(names["labels"]) == 4 and {*names["labels"]} <= {*"abcd"}
    assert names["new"].shape == (4, 2, 28, 28, 1)
    assert names["left"].shape == names["right"].shape and np.isfinite(names["value"])
