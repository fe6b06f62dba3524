import threading
import time

from lightning_transfer import locking
from lightning_transfer.locking import locked


def test_who_waits_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(locking, "PATIENCE", 0.05)
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
    assert capsys.readouterr().err == f"Waiting for another process, which holds {lock}\n"
