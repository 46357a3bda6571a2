"""report.html: complete, self-contained, beside the right numbers of the papers, and well in a browser."""

import html
import json
import re
import shutil
import subprocess

import pytest
from fake_runs import DATA, NELBO, NLL, Page, likelihood, run_config, write_picture, write_run

from hfsgm_jax.evaluation import TASKS, Evaluation
from hfsgm_jax.evaluation.page import paper
from hfsgm_jax.evaluation.page.captions import ABOUT
from hfsgm_jax.evaluation.page.tables import number, values_table
from hfsgm_jax.evaluation.report import write_report
from hfsgm_jax.evaluation.run import evaluate

WIDE = [f"condition_number_{i}" for i in range(25)]
BROWSERS = "chromium", "chromium-browser", "google-chrome"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run with two tasks, an unknown one, one that cannot be read, and grids of two steps."""
    shown = {"pictures": ["eval/conditional.png"], **DATA}
    recognised = dict(name="recognised", value=0.5625, standard_error=0.0625, unit="fraction", ways=20, **DATA)
    foreign = [
        dict(name="<b>odd</b>", value=3.5, **{key: "a value of some length" for key in WIDE}),
        dict(name="odd too", value=None, parts={"per_layer": [1.5, 2.5]}),
        dict(name="third", value=float("nan"), shots=[1, 5], pictures=["eval/third.png", "../secret.png"]),
    ]
    sample = [recognised, {"name": "conditional", **shown}, {"name": "gone", "pictures": ["eval/gone.png"], **DATA}]
    folder = tmp_path_factory.mktemp("runs") / "scha"
    write_run(folder, {"likelihood": likelihood(seconds=12.5), "sample": sample, "new_task": foreign})
    (folder / "eval" / "gone.png").unlink()
    (folder / "eval" / "attention.json").write_text('[{"name": ')
    for step in (10, 40):
        write_picture(folder / "samples" / f"{step:08d}_conditional.png", (90, 60))
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return Page(write_report(folder, {"parameters": 1234567, "step": 40}))


def test_every_record_is_shown(folder, page):
    for path in (folder / "eval").glob("*.json"):
        for record in json.loads(path.read_text()) if path.stem != "attention" else ():
            if record.get("value") is not None:
                assert number(record["value"], record.get("standard_error")) in page.text, record
    for text in (
        "SCHA-VAE (LAG)",
        "1,234,567",
        "step 40",
        "640 sets of 5",
        "joint, K = 1000",
        "[1.5, 2.5]",
        "2.0 minutes",
    ):
        assert text in page.text, text
    assert "set size: 5" in page.text and "seed: 0" in page.text  # common to the rows of a table


def test_is_self_contained(page):
    page.assert_self_contained()
    assert len(page.images) == 3 and all(image.startswith("data:image/png;base64,") for image in page.images)
    assert page.source.count("<svg") == 3 and "http" not in page.source
    assert 'name="viewport"' in page.source


def test_says_what_is_missing_or_cannot_be_read(folder, page):
    for task in set(TASKS) - {"likelihood", "sample", "attention", "report"}:
        assert f"python evaluate.py --workdir={folder} --tasks={task} " in page.text + " "
    assert "attention.json cannot be read" in page.text
    assert "eval/gone.png is missing" in page.text
    assert "Validation classes, step 40." in page.text and "step 10." not in page.text


def test_nothing_of_a_record_becomes_markup(page):
    assert "&lt;b&gt;odd&lt;/b&gt;" in page.source and "<b>odd" not in page.source


def test_reads_no_picture_outside_of_the_folder(folder, page):
    write_picture(folder.parent / "secret.png")
    again = Page(write_report(folder))
    assert len(again.images) == len(page.images) and "../secret.png is missing" in again.text


def test_a_run_without_results(tmp_path):
    folder = write_run(tmp_path / "new", {})
    (folder / "metrics.jsonl").unlink()
    page = Page(write_report(folder))
    assert "No training metrics" in page.text and "--tasks=likelihood," in page.text
    assert not page.images


def test_the_task_writes_the_page_and_says_where(tmp_path, capsys):
    folder = write_run(tmp_path / "run", {"likelihood": likelihood()})
    evaluation = Evaluation(folder, run_config(), None, {"params": {}}, 40)
    assert evaluate(evaluation, ["report"]).status == 0
    assert str(folder / "report.html") in capsys.readouterr().out
    assert list(TASKS)[-1] == "report" and (folder / "report.html").exists()
    evaluate(evaluation, ["report"])  # its own record is none of the page's
    assert "81.25 ± 0.50" in Page(folder / "report.html").text


def test_every_task_is_described():
    assert set(TASKS) - {"report"} <= set(ABOUT)


# --- the papers' numbers ----------------------------------------------------------------------


def test_the_same_protocol_is_comparable():
    found = paper.published("likelihood", {**NELBO, **DATA}, run_config())
    assert (found.text, found.table, found.comparable) == ("77.9 ± 0.3", "SCHA-VAE, Table 1", True)
    assert found.remark == "same protocol"


def test_differences_are_said():
    config = run_config()
    config.objective.name = "vhe"
    found = paper.published("likelihood", {**NLL, **DATA, "resize": "box", "importance_samples": 10}, config)
    assert found.text == "71.5 ± 0.1" and not found.comparable
    assert (
        found.remark == "there: resize gmn, objective ns, K 1000; here: resize box, objective vhe, K 10: not comparable"
    )
    found = paper.published("likelihood", {**NLL, **DATA, "importance_samples": 10}, run_config())
    assert found.comparable and found.remark == "there: K 1000; here: K 10: bounds of different tightness"


@pytest.mark.parametrize(
    ("task", "record", "model", "expected"),
    [
        ("likelihood", dict(name="nelbo", scheme="ns"), dict(name="vae"), "101.5 ± 0.1"),
        ("likelihood", dict(name="nll", set_size=20), dict(name="scha_vae"), "64.34"),
        ("likelihood", dict(name="nll", set_size=10), dict(name="scha_vae"), None),
        ("likelihood", dict(name="nelbo"), dict(name="hfsgm"), None),
        ("likelihood", dict(name="nelbo", split="val"), dict(name="scha_vae"), None),
        ("likelihood", dict(name="nll", set_size=20), dict(name="pixelcnn_vhe", objective="vhe"), "61.22"),
        ("cardinality", dict(name="nelbo", scheme="ns", set_size=10), dict(name="ns"), "95.1"),
        ("cardinality", dict(name="nelbo", scheme="ns", set_size=2, augmented=True, split="train"), {}, "103"),
        (
            "transfer",
            dict(name="nelbo", source="mnist", scheme="all"),
            dict(name="cns", aggregate="lag"),
            "117.6 ± 0.1",
        ),
        ("classify", dict(name="accuracy", source="mnist", ways=10, shots=5, method="kl"), dict(name="ns"), "0.73"),
        (
            "classify",
            dict(name="accuracy", ways=20, shots=1, method="log_mean", classes="within alphabet"),
            dict(name="pixelcnn_vhe", objective="vhe"),
            "0.813",
        ),
    ],
)
def test_the_number_of_the_same_model_and_setting(task, record, model, expected):
    config = run_config()
    config.model.aggregate = "mean"
    config.objective.name = model.pop("objective", "ns") if model else "ns"
    config.model.update(model)
    found = paper.published(task, {**DATA, **record}, config)
    assert (found and found.text) == expected


def test_of_bounds_that_differ_in_samples_the_largest_stands_beside_the_papers():
    records = likelihood()
    assert [found and found.text for found in paper.beside("likelihood", records, run_config())] == [
        "77.9 ± 0.3",
        None,
        "71.5 ± 0.1",
    ]


def test_the_papers_tables_are_whole():
    for table in paper.tables():
        assert {"table", "task", "unit", "conditions", "columns", "rows"} <= set(table)
        assert table["task"] in ABOUT
        for row in table["rows"]:
            assert len(row["values"]) == len(table["columns"]) == len(row.get("errors", row["values"]))
            assert "model" in row or "label" in row


def test_a_table_has_only_the_columns_that_vary():
    table = values_table(likelihood())
    assert table.columns == ["", "value", "estimator", "K", "log px", "kl z", "kl c"]
    assert "set size: 5" in table.common and "unit: nats/image" in table.common


# --- in a browser -----------------------------------------------------------------------------

# The page in a frame as wide as a phone's screen; what the frame measures ends up in the outer document.
PHONE = """<!doctype html><iframe id="phone" width="390" height="844" srcdoc="{page}"></iframe>
<p id="measured"></p><script>
document.getElementById("phone").onload = event => {{
  const page = event.target.contentDocument, root = page.documentElement, images = [...page.images];
  for (const folded of page.querySelectorAll("details")) folded.open = true;
  document.getElementById("measured").textContent = JSON.stringify({{
    width: root.clientWidth, needed: root.scrollWidth, images: images.length,
    broken: images.filter(image => !image.complete || !image.naturalWidth).length,
    charts: page.querySelectorAll("svg").length, scrolled:
      [...page.querySelectorAll(".scroll")].filter(box => box.scrollWidth > box.clientWidth).length,
    outside: [...page.querySelectorAll("img, svg, p, pre, dl, h1, h2, h3")]
      .filter(part => part.getBoundingClientRect().right > root.clientWidth + 1).length,
  }});
}};</script>"""


def measured_on_a_phone(page, folder):
    """What a browser says of a page at phone width; skips the test where there is none."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    frame = folder / "phone.html"
    frame.write_text(PHONE.format(page=html.escape(page.source)), encoding="utf-8")
    quiet = "--disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", *quiet.split(), f"--user-data-dir={folder / 'profile'}"]
    command = [browser, *flags, "--virtual-time-budget=5000", "--dump-dom", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    found = re.search(r'<p id="measured">(.+?)</p>', done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))


def test_reads_on_a_phone(page, tmp_path):
    found = measured_on_a_phone(page, tmp_path)
    assert found["needed"] <= found["width"] <= 390, "the page scrolls sideways"
    assert found["images"] == len(page.images) and found["broken"] == 0
    assert found["charts"] == 3 and found["outside"] == 0
    assert found["scrolled"] >= 1, "the wide table of this page scrolls in its own box"
