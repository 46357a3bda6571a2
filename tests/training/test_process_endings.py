"""What ends several processes: the loss of the first one, and a time budget."""

import signal

from many_processes import PATIENCE, endless, wait_for

from hfsgm_jax.training.log import read_metrics


def test_the_loss_of_the_first_process_ends_the_other_and_time_ends_both(programs, tmp_path):
    started, paths = programs.start(endless(tmp_path), (2, 1))
    wait_for(25, tmp_path, started, paths)  # after two saves
    started[0].send_signal(signal.SIGKILL)  # the one that coordinates and writes
    assert [process.wait(PATIENCE) != 0 for process in started] == [True, True], [path.read_text() for path in paths]

    seconds = read_metrics(tmp_path)[-1]["seconds"]
    budget = {"train.minutes": (seconds + 2.0) / 60}
    started, paths = programs.start(endless(tmp_path, **budget), (2, 1))
    said = [path.read_text() for process, path in zip(started, paths) if process.wait(PATIENCE) == 0]
    assert len(said) == 2 and "continuing" in said[0] and "time budget spent" in said[0]
    lines = read_metrics(tmp_path)
    assert lines[-1]["seconds"] >= seconds + 2.0 and "val/nelbo" in lines[-1]
    assert [line["step"] for line in lines[:-1]] == list(range(5, 5 * len(lines), 5))
