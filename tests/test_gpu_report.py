"""The report of a machine: time limits, what is done once, what is kept; with commands that do nothing."""

import json
import os

import pytest

from benchmarks import gpu_report

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


@pytest.fixture
def report(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_report, "commit", lambda: "abc")
    flags, overrides = gpu_report.parse(["--minutes=10", f"--workdir={tmp_path}", "--config.a.b=1"])
    return gpu_report.Report(flags, overrides)


def test_a_command_ends_well_badly_or_when_its_time_is_over(report, monkeypatch):
    monkeypatch.setattr(gpu_report, "GRACE", 1)
    assert report.do("good", ["-c", "print('fine')"], 20) == "ok"
    assert report.do("bad", ["-c", "raise SystemExit('broken')"], 20) == "failed"
    assert report.do("deaf", ["-c", DEAF], 1) == "time"
    assert report.do("late", ["-c", "1"], 0) == "time"
    found = json.loads(report.file.read_text())
    assert found.keys() == {"good", "bad", "deaf"}
    assert [found[name]["said"] for name in ("good", "bad", "deaf")] == [["fine"], ["broken"], []]
    assert found["deaf"]["seconds"] < 10


def test_what_is_done_is_not_done_again(report, tmp_path, monkeypatch):
    marker = tmp_path / "count"
    count = ["-c", f"open({str(marker)!r}, 'a').write('x')"]
    for of in (1, 1, 2):
        assert report.do("count", count, 20, of) == "ok"
    assert marker.read_text() == "xx"
    again = gpu_report.Report(report.flags, [])
    again.do("count", count, 20, 2)
    assert marker.read_text() == "xx"
    monkeypatch.setattr(gpu_report, "commit", lambda: "def")
    again.do("count", count, 20, 2)
    again.do("count", count, 20)  # keeps what it has done by itself
    assert marker.read_text() == "xxxx"


def test_stages_share_the_time_that_is_left(report, monkeypatch):
    """A command that fails does not stop the next; all that is there is collected."""
    run, given = report.run, {}
    (run / "eval").mkdir(parents=True)
    (run / "checkpoints" / "4").mkdir(parents=True)
    (run / "metrics.jsonl").write_text(json.dumps({"step": 4}) + "\n")
    (run / "eval" / "likelihood.json").write_text("[]")

    def do(self, name, arguments, seconds, of=None):
        given[name] = arguments, seconds, of
        self.done[name] = {"status": "failed"}
        return "failed"

    monkeypatch.setattr(gpu_report.Report, "do", do)
    monkeypatch.setattr(gpu_report, "probe", lambda report: None)
    monkeypatch.setattr(gpu_report.signal, "signal", lambda *_: None)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    options = [f"--workdir={report.workdir}", "--stages=benchmarks,train,evaluate", "--config.a.b=1"]
    assert gpu_report.main(["--minutes=10", *options]) == 1
    assert list(given)[:2] == ["benchmarks", "train"] and list(given)[-2:] == ["page", "export"]
    total = 600 - gpu_report.RESERVE
    assert given["benchmarks"][1] == pytest.approx(total * 25 / 85, abs=5)
    assert given["train"][1] == pytest.approx(total * 35 / 60, abs=5)  # of what the benchmarks left
    assert given["train"][0][-1] == "--config.a.b=1" and given["evaluate few sets"][2] == [4]
    assert {path.name for path in report.results.iterdir()} == {"metrics.jsonl", "likelihood.json"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("--eval.set_size=1", "unknown arguments --eval.set_size=1; train.py's look like"),
        ("--stages=tests,trian", "no such stages: trian; there are tests, benchmarks, train, evaluate"),
    ],
)
def test_unknown_arguments_are_refused(wrong, message, capsys):
    with pytest.raises(SystemExit):
        gpu_report.parse([wrong])
    assert message in capsys.readouterr().err
