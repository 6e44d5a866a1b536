from __future__ import annotations

import logging
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from pipeline.quiet import quiet_children, quiet_libraries


def test_warnings_and_logs_go_to_the_file_not_to_the_screen(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "deep" / "n.log"
    with quiet_libraries(log):
        warnings.warn("a warning of a library", UserWarning, stacklevel=1)
        logging.getLogger("some.library").error("a log line")
        logging.getLogger("astropy").warning("an astropy line")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    text = log.read_text()
    for words in ("a warning of a library", "a log line", "an astropy line"):
        assert words in text


def test_what_children_write_goes_to_the_file_and_the_screen_stays_ours(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "n.log"
    with quiet_children(log) as screen:
        subprocess.run([sys.executable, "-c", "import sys; sys.stderr.write('noise of a worker')"], check=True)
        screen.write("progress")
    sys.stderr.write("after")
    _, err = capfd.readouterr()
    assert "noise" not in err
    assert "progress" in err
    assert "after" in err
    assert "noise of a worker" in log.read_text()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_child_can_write_though_the_disk_of_the_log_is_full() -> None:
    code = "import sys; sys.stderr.write('x' * 300_000); sys.stderr.flush(); sys.exit(7)"
    with quiet_children(Path("/dev/full")):
        done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert done.returncode == 7


def test_a_thread_that_ends_after_its_run_has_failed_writes_to_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The threads of an engine that was killed end one by one, when the sentence is on the screen already."""
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    log = tmp_path / "nightcat.log"
    with pytest.raises(RuntimeError, match="the engine failed"), quiet_children(log):
        raise RuntimeError("the engine failed")

    def late() -> None:
        raise ConnectionError("stream removed")

    thread = threading.Thread(target=late)
    thread.start()
    thread.join()
    assert "stream removed" in log.read_text()
    assert "stream removed" not in capfd.readouterr().err
