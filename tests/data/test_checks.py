"""Processes compare what they have found; `test_nodes.py` does so with real ones."""

import pytest
import torch.distributed as dist

from lightning_transfer.data.checks import check_agreement
from lightning_transfer.errors import DataError

PATHS = ("a.jpg", "b.jpg")


def test_alone_there_is_nothing_to_compare(tmp_path):
    check_agreement(tmp_path, PATHS)


@pytest.mark.parametrize(("others", "different"), [([PATHS] * 3, ""), ([PATHS, PATHS[:1], PATHS[::-1]], "2, 3")])
def test_the_processes_that_differ_are_named(tmp_path, monkeypatch, others, different):
    sent = []
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 1)
    monkeypatch.setattr(dist, "all_gather_object", lambda into, own: sent.append(own))
    for found in (PATHS, *others):
        check_agreement(tmp_path, found)

    def gather(into, own):
        into[:] = sent

    monkeypatch.setattr(dist, "all_gather_object", gather)
    if not different:
        check_agreement(tmp_path, PATHS)
        return
    with pytest.raises(DataError, match=f"process {different} and process 0 differ"):
        check_agreement(tmp_path, PATHS)
