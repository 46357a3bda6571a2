"""The report of a machine: time limits, what is done once, what is read from files; with commands that do nothing."""

import json
import sys

import numpy as np
import pytest

from benchmarks import gpu_report, gpu_report_items
from benchmarks import gpu_report_commands as commands
from hfsgm_jax.weights import write_weights

OK, BAD = "print('fine')", "raise SystemExit('broken')"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


def python(code):
    return [sys.executable, "-c", code]


@pytest.fixture
def report(tmp_path):
    flags, overrides = gpu_report.parse(["--minutes=1", f"--workdir={tmp_path}", "--commit=abc", "--config.a.b=1"])
    assert overrides == ["--config.a.b=1"]
    return gpu_report.Report(flags, overrides)


def test_a_command_ends_well_badly_or_when_its_time_is_over(tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "GRACE", 0.2)
    log = tmp_path / "logs" / "x.log"
    done = commands.execute(python(OK), 20, log, {})
    assert (done["status"], done["exit"]) == ("ok", 0) and "tail" not in done and log.read_text() == "fine\n"
    done = commands.execute(python(BAD), 20, log, {})
    assert (done["status"], done["exit"], done["tail"]) == ("failed", 1, "broken\n")
    done = commands.execute(python(DEAF), 1, log, {})
    assert (done["status"], done["exit"]) == ("time", -9) and 1 <= done["seconds"] < 10
    done = commands.execute(python("import os; print(os.environ['SAID'])"), 20, log, {"SAID": "yes"})
    assert log.read_text() == "yes\n"


def test_what_is_done_is_not_done_again(report, tmp_path, capsys):
    marker = tmp_path / "count"
    count = python(f"open({str(marker)!r}, 'a').write('x')")
    for of in (1, 1, 2):
        assert report.do("count", count, 20, of=of)["status"] == "ok"
    assert marker.read_text() == "xx"
    report.commit = "def"
    report.do("count", count, 20, of=2)
    assert marker.read_text() == "xxx"
    again = gpu_report.Report(report.flags, [])
    again.commit = "def"
    again.do("count", count, 20, of=2)
    assert marker.read_text() == "xxx" and "done before" in capsys.readouterr().out
    for _ in range(2):  # a failure is tried again
        assert again.do("bad", python(BAD), 20)["status"] == "failed"
    assert again.do("late", python(OK), 0)["status"] == "left out" and "late" not in again.done


def test_a_failing_benchmark_does_not_stop_the_next(report, monkeypatch):
    ran = []
    monkeypatch.setattr(report, "do", lambda name, *_, **__: ran.append(name) or {"status": "failed"})
    gpu_report.run_benchmarks(report, {"devices": 2})
    names = [item.name for item in gpu_report_items.accelerator(2)]
    assert ran == [f"benchmark {name}" for name in names] and len(set(names)) == len(names)
    assert len(names) == 1 + len(gpu_report_items.accelerator(1))


def test_results_hold_what_there_is(report, monkeypatch, capsys):
    """Of a run that trained, was evaluated and exported: loadable weights, all numbers, few files."""
    run = report.run
    (run / "eval").mkdir(parents=True)
    (run / "checkpoints" / "2").mkdir(parents=True)
    lines = [dict(step=s, images=9 * s, seconds=1.5 * s, images_per_second=s) for s in (1, 2, 3)]
    lines[0]["val/nelbo"], lines[1]["val/nelbo"] = 5.0, 4.0
    lines.append(dict(step=4, images=36, seconds=6.0))
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 5, "ima')
    (run / "report.html").write_text("page")
    (run / "config.json").write_text("{}")
    (run / "eval" / "likelihood.json").write_text('[{"name": "nll", "value": 3.0}]')
    commands.write_json(report.workdir / "benchmarks" / "b.json", {"images_per_second": 7})
    xml = report.workdir / "tests.xml"
    xml.write_text(
        '<testsuites><testsuite><testcase classname="t" name="a"/><testcase classname="t" name="b"><failure/>'
        '</testcase><testcase classname="t" name="c"><skipped/></testcase></testsuite></testsuites>'
    )
    report.remember("tests", {"status": "failed", "tail": "long"} | commands.tests_of(xml))

    def export(command, *_):
        write_weights(command[-1], {"params": {"a": np.ones(3, np.float32)}}, 2)
        return {"status": "ok"}

    monkeypatch.setattr(gpu_report, "execute", export)
    gpu_report.collect(report, {"device": "tiny"})
    assert (report.results / "report.html").exists()
    (run / "report.html").write_bytes(bytes(gpu_report.LARGEST + 1))
    gpu_report.collect(report, {"device": "tiny"})
    assert "report.html is left out of the results: 16.0 MiB" in capsys.readouterr().out
    names = {path.name for path in report.results.iterdir()}
    assert names == {
        *("config.json", "metrics.jsonl", "likelihood.json", "machine.json", "gpu_report.json"),
        *("weights.json", "weights.0.bin"),
    }
    found = json.loads((report.results / "gpu_report.json").read_text())
    assert found["machine"] == {"device": "tiny", "commit": "abc"} and found["overrides"] == ["--config.a.b=1"]
    assert found["tests"] == {"status": "failed", "passed": 1, "failed": 1, "skipped": 1, "failures": ["t::b"]}
    assert found["benchmarks"] == {"b": {"images_per_second": 7}}
    assert found["training"]["last"]["step"] == 4 and found["training"]["images_per_second"] == 2
    assert found["training"]["best"] == {"step": 2, "images": 18, "seconds": 3.0, "val/nelbo": 4.0}
    assert found["evaluation"]["likelihood"][0]["value"] == 3.0


def test_training_gets_what_the_evaluation_leaves(report, monkeypatch):
    """Its own clock goes on where the last call's ended."""
    given = []
    monkeypatch.setattr(report, "do", lambda name, command, seconds, **_: given.append((command, seconds)))
    report.flags.minutes, report.limit = 10, commands.Limit.after(600)
    report.run.mkdir(parents=True)
    line = dict(step=1, images=1, seconds=120.0, images_per_second=1)
    (report.run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    gpu_report.run_training(report, evaluates=True)
    ((command, seconds),) = given
    assert seconds == pytest.approx(600 * 0.75 - gpu_report.COLLECT - gpu_report.GRACE, abs=5)
    minutes = float(command[-1].removeprefix("--config.train.minutes="))
    assert 2 < minutes - (seconds - gpu_report.START) / 60 * 0.9 < 2.3
    assert "--config.a.b=1" in command
    report.limit = commands.Limit.after(60)
    gpu_report.run_training(report, evaluates=False)
    assert len(given) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("--confg=x", "unknown arguments --confg=x"),
        ("--eval.set_size=1", "unknown arguments --eval.set_size=1; train.py's look like"),
        ("--stages=tests,trian", "no such stages: trian; there are tests, benchmarks, train, evaluate"),
    ],
)
def test_unknown_arguments_are_refused(wrong, message, capsys):
    with pytest.raises(SystemExit):
        gpu_report.parse([wrong])
    assert message in capsys.readouterr().err
