import threading
import time

from lightning_transfer.utils import files
from lightning_transfer.utils.files import locked


def test_who_waits_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(files, "PATIENCE", 0.05)
    held, release, lock = threading.Event(), threading.Event(), tmp_path / "[lock]"

    def hold():
        with locked(lock):
            held.set()
            time.sleep(0.3)
            release.set()

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    with locked(lock):
        assert release.is_set()
    holder.join()
    lines = capsys.readouterr().err.splitlines()
    # After 0.05, 0.1 and 0.2 seconds, on a machine that is not busy.
    assert 1 <= len(lines) <= 3
    begin = f"Waiting for another process, which holds {lock} (0 s by now; "
    assert all(line.startswith(begin) for line in lines)
