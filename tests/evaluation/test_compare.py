"""evaluate.py --compare: like beside like, the papers' numbers, errors."""

import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import pytest
from fake_runs import DATA, Page, likelihood, run_config, write_run

from hfsgm_jax.config import ConfigError
from hfsgm_jax.evaluation import EvaluationError
from hfsgm_jax.evaluation.compare import compare

ROOT = Path(__file__).resolve().parents[2]


class Toy(nn.Module):
    """A model of 6 parameters."""

    @nn.compact
    def __call__(self, sets, plan):
        return nn.Dense(3)(sets.images[0, 0, :1, :1, 0])


def other_config(**model):
    config = run_config()
    config.model.update(model)
    return config


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs on the same data, a VAE among them, and one on other data with more samples per bound."""
    folder = tmp_path_factory.mktemp("runs")
    accuracy = {"name": "accuracy", "method": "kl", "unit": "fraction", "ways": 20, "shots": 1, **DATA}
    sample = [{"name": "conditional", "pictures": ["eval/conditional.png"], **DATA}]
    lag = {"likelihood": likelihood(), "classify": [{**accuracy, "value": 0.75}], "sample": sample}
    one_by_one = [{**record, "value": record["value"] + 5} for record in likelihood(images_one_by_one=True)]
    box = likelihood(resize="box", sha256="b" * 64)
    on_box = run_config()
    on_box.data.resize = "box"
    return [
        write_run(folder / "lag", lag),
        write_run(folder / "vae", {"likelihood": one_by_one}, other_config(name="vae")),
        write_run(folder / "box", {"likelihood": box, "classify": [{**accuracy, "value": 0.5}]}, on_box),
    ]


@pytest.fixture(scope="module")
def compared(runs):
    path, text = compare(runs, lambda folder: Toy())
    return Page(path), text


def rows_of(text: str) -> dict[str, list[list[str]]]:
    """First cell -> the rows of all Markdown tables that begin with it."""
    rows: dict[str, list[list[str]]] = {}
    for line in text.splitlines():
        if line.startswith("| "):
            first, *cells = (cell.strip() for cell in line[1:-1].split("|"))
            rows.setdefault(first, []).append(cells)
    return rows


def test_numbers_of_the_same_data_stand_in_one_table(compared):
    page, text = compared
    rows = rows_of(text)
    heading, other = rows["run"][1:]
    assert heading == [
        "model",
        "parameters, M",
        "images",
        "minutes",
        "nelbo",
        "paper",
        "nll, joint, K 10",
        "nll, joint, K 1000",
        "paper",
    ]
    assert rows["lag"][1] == [
        "SCHA-VAE (LAG)", "0.00", "800", "2.0", "**81.25 ± 0.50**", "77.9 ± 0.3 [1]", "**77.50 ± 0.25**",
        "**75.12 ± 0.25**", "71.5 ± 0.1 [1]",
    ]  # fmt: skip
    assert len(rows["lag"]) == len(rows["vae"]) == len(rows["box"]) == 2  # the runs, and a table each
    assert text.count("resize box, image size 28") == 1 and len(other) == len(heading)
    assert "(77.9 ± 0.3)" in " ".join(rows["box"][1])


def test_what_differs_is_said(compared):
    page, text = compared
    assert "there: resize gmn; here: resize box: not comparable" in text
    assert "Image by image" in text
    assert "model.name" in page.text  # of the table of differences between configs


def test_best_is_told_only_among_several(compared):
    rows = rows_of(compared[1])
    assert not any("**" in cell for cell in rows["box"][1])
    assert rows["accuracy"] == [["**0.750**", "0.500"]]


def test_the_page(compared, runs):
    page, _ = compared
    page.assert_self_contained()
    assert len(page.images) == 1 and page.source.count("<svg") == 4  # two groups of the same validation data
    for run in runs:
        assert run.name in page.text
    assert (runs[0] / "compare.html").exists()


def test_runs_of_one_name_are_told_apart(runs, tmp_path):
    twin = write_run(tmp_path / "lag", {"likelihood": likelihood()})
    _, text = compare([runs[0], twin], lambda folder: Toy(), tmp_path / "new" / "page.html")
    assert str(twin) in text and str(runs[0]) in text and (tmp_path / "new" / "page.html").exists()


def test_what_cannot_be_compared(runs, tmp_path):
    new = write_run(tmp_path / "new", {})
    with pytest.raises(EvaluationError, match=f"python evaluate.py --workdir={new} --tasks=likelihood"):
        compare([runs[0], new], lambda folder: Toy())
    with pytest.raises(ConfigError, match="nowhere is not the folder of a run"):
        compare([runs[0], tmp_path / "nowhere"], lambda folder: Toy())
    with pytest.raises(EvaluationError, match="two or more different runs"):
        compare([runs[0], runs[0]], lambda folder: Toy())


def run_program(*flags):
    return subprocess.run([sys.executable, "evaluate.py", *flags], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--compare=a,b", "--workdir=c"], "--compare reads results that are there already, and takes no --workdir"),
        (["--compare=a,b", "--tasks=likelihood"], "takes no --tasks"),
        (["--compare=a,b", "--eval.seed=1"], "takes no --eval.seed"),
        (["--compare=a,b", "--num_processes=2"], "takes no --num_processes"),
        (["--workdir=a", "--out=b.html"], "--out is the page of --compare"),
        (["--compare=a,b", "--out=tests"], "--out=tests is no file name"),
    ],
)
def test_flags_that_do_not_go_together(flags, message):
    done = run_program(*flags)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_the_program(runs, tmp_path):
    out = tmp_path / "both.html"
    done = run_program(f"--compare={runs[0]},{runs[1]}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert f"-> {out}" in done.stdout and "**81.25 ± 0.50**" in done.stdout
    assert "SCHA-VAE (LAG)" in Page(out).text
