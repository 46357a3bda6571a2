"""The report of one run and of several: complete, self-contained, like beside like and beside the papers' numbers."""

import json
import re
from pathlib import Path

import pytest
from fake_runs import DATA, NELBO, NLL, Page, likelihood, run_config, write_run
from tiny_model import tiny_config

from hfsgm_jax.errors import ConfigError
from hfsgm_jax.evaluation.page import paper
from hfsgm_jax.evaluation.report import WORDS, compare, report
from hfsgm_jax.evaluation.run import TASKS
from hfsgm_jax.evaluation.tables import number
from hfsgm_jax.models import build_model
from hfsgm_jax.shipped import pretrained

RESULTS = Path(__file__).resolve().parents[2] / "results"
ACCURACY = {"name": "accuracy", "method": "kl", "unit": "fraction", "ways": 20, "shots": 1, **DATA}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run with two tasks and an unknown one."""
    sample = [
        dict(name="recognised", value=0.5625, standard_error=0.0625, unit="fraction", ways=20, **DATA),
        {"name": "conditional", "pictures": ["eval/conditional.png"], **DATA},
        {"name": "gone", "pictures": ["eval/gone.png"], **DATA},
    ]
    odd = [dict(name="<b>odd</b>", value=3.5), dict(name="third", value=float("nan"), shots=[1, 5])]
    folder = tmp_path_factory.mktemp("runs") / "scha"
    write_run(folder, {"likelihood": likelihood(seconds=12.5), "sample": sample, "new_task": odd})
    (folder / "eval" / "gone.png").unlink()
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return Page(compare([folder])[0])


def test_every_number_is_shown(folder, page):
    for path in (folder / "eval").glob("*.json"):
        for record in json.loads(path.read_text()):
            if record.get("value") is not None:
                assert number(record["value"], record.get("standard_error")) in page.text, record
    for text in (
        "SCHA-VAE (LAG)",
        "77.9 ± 0.3 [1]",
        "71.5 ± 0.1 [1]",
        "test sets all → 640 of 2,636, augmentation flips, rotations of 50% of the sets → none",
        "training images 20,808,000 → 800",
        "unit: nats/image",
        "set size: 5",
    ):
        assert text in page.text, text
    assert page.text.count("71.5") == 1  # of bounds that differ in K, beside the largest


def test_pictures_and_curves_are_inside(page):
    kinds = [image.partition(";")[0] for image in page.images]
    assert kinds == ["data:image/png", *["data:image/svg+xml"] * 3]
    assert "eval/gone.png is missing" in page.text


def test_the_page_knows_all_tasks():
    assert {*WORDS["tasks"], "report"} == {*TASKS} and next(iter(WORDS["tasks"])) == "sample"  # pictures first


def test_nothing_of_a_record_becomes_markup(page):
    assert "&lt;b&gt;odd&lt;/b&gt;" in page.source and "<b>odd" not in page.source


def test_a_new_run(tmp_path):
    folder = write_run(tmp_path / "new", {})
    (folder / "metrics.jsonl").unlink()
    assert not Page(compare([folder])[0]).images


def test_the_task_is_never_kept(folder):
    class Evaluation:
        workdir = folder
        model = build_model(tiny_config().model, (28, 28, 1))

    (record,) = report(Evaluation)
    assert not record.keep and record.measure() == {"pictures": ["report.html"]}
    assert re.search(r"parameters \d,\d\d\d ", Page(folder / "report.html").text)


@pytest.mark.parametrize("name", [*pretrained(), "quickstart"])
def test_committed_results_are_rendered(name, tmp_path):
    (tmp_path / "eval").mkdir()
    for path in (RESULTS / name).glob("*.json*"):
        parent = tmp_path if path.stem in ("config", "metrics") else tmp_path / "eval"
        (parent / path.name).write_bytes(path.read_bytes())
    (tmp_path / "eval" / "machine.json").unlink()
    text = Page(compare([tmp_path])[0]).text
    records = json.loads((RESULTS / name / "likelihood.json").read_text())
    assert all(number(r["value"], r.get("standard_error")) in text for r in records if "value" in r)


# --- several runs -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs on the same data, a VAE among them, and one on other data."""
    folder = tmp_path_factory.mktemp("runs")
    sample = [{"name": "conditional", "pictures": ["eval/conditional.png"], **DATA}]
    lag = {"likelihood": likelihood(), "classify": [{**ACCURACY, "value": 0.75}], "sample": sample}
    alone = [{**record, "value": record["value"] + 5} for record in likelihood(images_one_by_one=True, step=30)]
    box = {"likelihood": likelihood(resize="box", sha256="b" * 64), "classify": [{**ACCURACY, "value": 0.5}]}
    return [
        write_run(folder / "lag", lag),
        write_run(folder / "vae", {"likelihood": alone}, run_config({"name": "vae", "unknown": 1})),
        write_run(folder / "box", box, run_config(resize="box")),
    ]


def test_only_like_stands_beside_like(runs):
    path, text = compare(runs)
    assert (
        "| nelbo | elbo | 1 | gmn | 81.25 ± 0.50 | 77.9 ± 0.3 [1] | 86.25 ± 0.50 [2] | 101.4 ± 0.1 [3] |  |  |" in text
    )
    assert "| nelbo | elbo | 1 | box |  |  |  |  | 81.25 ± 0.50 | (77.9 ± 0.3) [4] |" in text
    assert "[2] Image by image" in text and "training set size 1 → 5, test sets all → 640 of 2,636, " in text
    assert "resize gmn → box, " in text and ": not comparable" in text
    assert "| accuracy | 0.750 | 0.500 |" in text and "| model | SCHA-VAE (LAG) | VAE | SCHA-VAE (LAG) |" in text
    page = Page(path)
    assert path == runs[0] / "compare.html" and "data.resize" in page.text and "data.seed" not in page.text
    assert len(page.images) == 1 + 2 + 3  # validation of two runs on the same data, all curves of the third


def test_runs_of_one_name_are_told_apart(runs, tmp_path):
    twin = write_run(tmp_path / "lag", {"likelihood": likelihood()})
    out, text = compare([runs[0], twin, twin], tmp_path / "new" / "page.html")
    assert text.count(f"| {runs[0]} | {twin} |") == 1 and out.exists()


def test_what_is_no_run_is_said(tmp_path):
    with pytest.raises(ConfigError, match="nowhere is not the folder of a run"):
        compare([tmp_path / "nowhere"])
    folder = write_run(tmp_path / "run", {})
    with pytest.raises(ConfigError, match="is a folder; name a file in it"):
        compare([folder], tmp_path)
    (folder / "eval" / "likelihood.json").write_text('{"a": 1}')
    with pytest.raises(ConfigError, match=r"likelihood\.json is no list of results"):
        compare([folder])


# --- the papers' numbers ----------------------------------------------------------------------


def test_differences_are_said():
    config, there = run_config(), "flips, rotations of 50% of the sets"
    found = paper.published("likelihood", {**NELBO, **DATA}, config, images=60_000)
    sets, augmentation = "test sets all → 640 of 2,636", f"augmentation {there} → "
    remark = f"{sets}, {augmentation}none, training images 20,808,000 → 60,000"
    assert found[:4] == ("SCHA-VAE, Table 1", "77.9 ± 0.3", remark, True) and "augmentation" in found.differs
    config["data"] |= dict(flip=True, rotate=180.0)
    few = {**NLL, **DATA, "importance_samples": 10, "num_sets": 2636}
    found = paper.published("likelihood", few, config, images=20_808_000)
    assert found.comparable and found.remark == "K 1000 → 10: bounds of different tightness"
    head = config | {"model": config["model"] | {"pixelcnn_layers": 2}}
    assert paper.published("likelihood", few, head, images=20_808_000).remark.startswith("pixels independent → autoreg")
    config["data"] |= dict(augmented=1.0)
    augmentation += "flips, rotations"
    config["objective"]["name"] = "vhe"
    found = paper.published("likelihood", few | {"resize": "box"}, config, images=30_000_000)
    remark = f"resize gmn → box, objective ns → vhe, {augmentation}, K 1000 → 10: not comparable"
    assert not found.comparable and found.remark == remark


def test_the_same_protocol_is_called_so():
    config = run_config({"name": "pixelcnn_vhe", "unknown": 1}) | {"objective": {"name": "vhe"}}
    config["data"] |= {"split": "alphabet"}
    record = {
        **NLL,
        **DATA,
        "estimator": "nested",
        "set_size": 20,
        "importance_samples": 500,
        "importance_samples_z": 10,
    }
    found = paper.published("likelihood", record | dict(num_sets=659, available_sets=659), config, images=2_000_000)
    assert found.text == "61.22" and found.remark.startswith("same protocol (") and found.comparable
    other = paper.published(
        "likelihood", record | dict(num_sets=659, available_sets=None), config
    )  # what is not known is not the same
    assert "test sets all → 659, training images 1,700,000 → unknown" in other.remark


@pytest.mark.parametrize(
    ("task", "record", "model", "objective", "expected"),
    [
        ("likelihood", dict(name="nelbo", scheme="ns"), "vae", "ns", "101.5 ± 0.1"),
        ("likelihood", dict(name="nll", set_size=20), "scha_vae", "ns", "64.34"),
        ("likelihood", dict(name="nll", set_size=10), "scha_vae", "ns", None),
        ("likelihood", dict(name="nelbo"), "hfsgm", "ns", None),
        ("likelihood", dict(name="nelbo", split="val"), "scha_vae", "ns", None),
        ("likelihood", dict(name="nll", set_size=20), "pixelcnn_vhe", "vhe", "61.22"),
        ("cardinality", dict(name="nelbo", scheme="ns", set_size=10), "ns", "ns", "95.1"),
        (
            "cardinality",
            dict(name="nelbo", scheme="ns", set_size=2, augmented=True, split="train"),
            "ns",
            "ns",
            "107.8",
        ),
        ("transfer", dict(name="nelbo", source="mnist", scheme="all"), "cns", "ns", "118.2 ± 0.2"),
        ("classify", dict(name="accuracy", source="mnist", ways=10, shots=5, method="kl"), "ns", "ns", "0.73"),
        ("classify", ACCURACY | dict(method="log_mean", classes="within alphabet"), "pixelcnn_vhe", "vhe", "0.813"),
        ("kl_layers", dict(name="kl_c", split="train"), "bns", "vhe", "452.47"),
    ],
)
def test_the_number_of_the_same_model_and_setting(task, record, model, objective, expected):
    config = run_config({"name": model, "aggregate": "mean"}) | {"objective": {"name": objective}}
    found = paper.published(task, {**DATA, **record}, config)
    assert (found and found.text) == expected


def test_the_papers_tables_are_whole():
    for table in paper.TABLES:
        assert {"table", "unit", "conditions"} <= set(table) and table["task"] in WORDS["tasks"]
        for row in table["rows"]:
            assert len(row["values"]) == len(table["columns"])
