"""The command hfsgm-jax: image files in, pictures, names and vectors out."""

import sys

import numpy as np
import pytest
from PIL import Image

from hfsgm_jax.data import strokes
from hfsgm_jax.programs import front


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """A folder with two folders of drawings, dark on light."""
    folder = tmp_path_factory.mktemp("classes")
    for name, drawings in zip("ab", strokes.draw(2, 3, 60, seed=0)):
        (folder / name).mkdir()
        for number, drawing in enumerate(drawings):
            Image.fromarray(255 - drawing[..., 0]).save(folder / name / f"{number}.png")
    return folder


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["hfsgm-jax", *map(str, arguments)])
    front.main()


def test_generate(run_folder, classes, tmp_path, monkeypatch, capsys):
    files = sorted((classes / "a").iterdir())
    call(monkeypatch, "generate", f"--model={run_folder}", *files, "--num=3", f"--out={tmp_path / 'out.png'}")
    assert capsys.readouterr().out.strip() == str(tmp_path / "out.png")
    assert np.ptp(np.asarray(Image.open(tmp_path / "out.png"))) > 100


def test_classify_and_embed(run_folder, classes, tmp_path, monkeypatch, capsys):
    queries = [classes / "a" / "0.png", classes / "b" / "1.png"]
    call(monkeypatch, "classify", f"--model={run_folder}", f"--classes={classes}", *queries)
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == list(map(str, queries))
    assert all(label in "ab" and 0.5 <= float(probability) <= 1 for _, label, probability in lines)
    call(monkeypatch, "embed", f"--model={run_folder}", *queries, f"--out={tmp_path / 'set.x'}")
    assert np.load(tmp_path / "set.npy").shape == (2 * (1 + 8 * 8),)


def test_mistakes_are_sentences(run_folder, classes, monkeypatch):
    with pytest.raises(SystemExit, match="generate: .*omniglott does not exist, nor is it a model that comes"):
        call(monkeypatch, "generate", "--model=omniglott", classes / "a" / "0.png")
    with pytest.raises(SystemExit, match="missing.png"):
        call(monkeypatch, "generate", f"--model={run_folder}", "missing.png")


def test_help_and_the_programs_with_flags_of_their_own(monkeypatch, capsys):
    def ended(*arguments):
        with pytest.raises(SystemExit) as end:
            call(monkeypatch, *arguments)
        return end.value.code, *capsys.readouterr()

    code, said, _ = ended("generate", "--help")
    assert code == 0 and "--num" in said and len(said.splitlines()) < 40
    for program, flag in (("train", "--config"), ("evaluate", "--tasks")):
        assert f"    {program} " in ended("--help")[1]
        code, said, _ = ended(program, "--help")
        assert code == 0 and flag in said and len(said.splitlines()) < 50
        code, _, said = ended(program)
        assert code == 2 and f"{program}.py: " in said and "--workdir" in said
