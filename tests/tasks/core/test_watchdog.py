"""A process that hangs: it ends, says so, and shows where it stood."""

import subprocess
import sys
from pathlib import Path

from r1_process import PROJECT_DIR

from tasks.core.files import read_json, write_json

HANG = """
import sys, threading
from pathlib import Path
from tasks.core.watchdog import Watchdog

def stands_here():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

with Watchdog(Path(sys.argv[1]), 0.02):
    stands_here()
"""


def test_watchdog_ends_a_process_that_hangs_and_says_where(tmp_path: Path) -> None:
    write_json(tmp_path / "status.json", {"state": "running", "started_at": 12.0, "seconds_before": 3.0})
    ended = subprocess.run(
        [sys.executable, "-c", HANG, str(tmp_path)], cwd=PROJECT_DIR, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 75 and "in stands_here" in ended.stderr
    status = read_json(tmp_path / "status.json")
    assert (status["state"], status["exit_code"], status["cause"]) == ("failed", 75, "hang")
    assert status["error"].startswith("no step, log row or checkpoint for 0.02 minutes (health.stall_minutes)")
    assert (status["started_at"], status["seconds_before"]) == (12.0, 3.0)


def test_watchdog_leaves_a_process_alone_that_moves_or_has_none(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from tasks.core.watchdog import Watchdog
with Watchdog(Path(sys.argv[1]), 0.03) as watchdog:
    for _ in range(30):
        time.sleep(0.1)
        watchdog.beat()
with Watchdog(Path(sys.argv[1]), None):
    pass
time.sleep(2)
"""
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=PROJECT_DIR, timeout=120)
    assert ended.returncode == 0 and not (tmp_path / "status.json").exists()
