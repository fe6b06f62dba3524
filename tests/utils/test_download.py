"""Several processes at once, and kills, are in tests/faults/test_downloads.py."""

import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lightning_transfer.errors import DownloadError
from lightning_transfer.utils import download as module
from lightning_transfer.utils.download import download

CONTENT = bytes(range(256)) * 400
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT; the path says with which fault."""

    def do_GET(self):
        server, path = self.server, self.path
        wanted = self.headers.get("Range")
        server.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if path == "/missing":
            return self.send_error(404)
        if path == "/redirect":
            return self.answer(302, b"", Location=server.location)
        if path == "/login":
            return self.answer(200, b"<html>Log in</html>", **{"Content-Type": "text/html"})
        if path == "/endless":
            return self.answer(200, CONTENT + b"more", length=False)
        if path == "/other":
            return self.answer(200, CONTENT[::-1])
        if path == "/unsatisfiable" and wanted:
            return self.answer(416, b"")
        if path == "/elsewhere" and wanted:
            return self.answer(206, CONTENT, **{"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"})
        if path == "/grown" and wanted:
            return self.answer(206, b"", **{"Content-Range": f"bytes {start}-{start}/{len(CONTENT) + 1}"})
        if wanted and path != "/no-range":
            span = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
            return self.answer(206, CONTENT[start:], **{"Content-Range": span})
        return self.answer(200, CONTENT)

    def answer(self, status, body, length=True, **headers):
        self.send_response(status)
        if length:
            self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts else len(body)
        self.wfile.write(body[:cut])
        if self.path == "/stall" and cut < len(body):
            self.server.go_on.wait(20)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "PAUSE", 0.0)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.ranges, server.cuts, server.location, server.go_on = [], [], "", threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.go_on.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data" / "a.zip"


@pytest.fixture
def part(target):
    """The partial file's path, its folder made."""
    target.parent.mkdir()
    return target.with_name("a.zip.part")


@pytest.fixture
def closed():
    """An address where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    return f"http://127.0.0.1:{port}/file"


def fetch(url, target, remedy="Do it by hand."):
    return download(url, target, len(CONTENT), SHA256, remedy)


def assert_whole(target):
    assert target.read_bytes() == CONTENT
    assert {path.name for path in target.parent.iterdir()} <= {"a.zip", ".a.zip.lock"}


def test_fetches_and_says_how_far_it_is(server, target, capsys):
    assert fetch(f"{server.url}/file", target) == target
    assert_whole(target)
    assert server.ranges == [None]
    assert "a.zip" in capsys.readouterr().err


def test_a_right_file_needs_no_network(closed, target):
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    assert fetch(closed, target) == target
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("content", [b"short", CONTENT[::-1]], ids=["size", "hash"])
def test_another_file_stays_and_is_told(server, target, content):
    target.parent.mkdir()
    target.write_bytes(content)
    with pytest.raises(DownloadError, match=rf"a\.zip is another file.* {SHA256}\. Move or remove it\. Do it"):
        fetch(f"{server.url}/file", target)
    assert target.read_bytes() == content
    assert server.ranges == []


def test_goes_on_from_what_is_there(server, target, part):
    part.write_bytes(CONTENT[:HALF])
    fetch(f"{server.url}/file", target)
    assert_whole(target)
    assert server.ranges == [f"bytes={HALF}-"]


def test_a_whole_part_costs_no_network(closed, target, part):
    part.write_bytes(CONTENT)
    fetch(closed, target)
    assert_whole(target)


@pytest.mark.parametrize(
    ("path", "held", "requests"),
    [
        ("/file", CONTENT + b"more", 1),
        ("/file", b"x" * len(CONTENT), 1),
        ("/file", b"x" * HALF, 2),
        ("/no-range", CONTENT[:HALF], 1),
        ("/unsatisfiable", CONTENT[:HALF], 2),
        ("/elsewhere", CONTENT[:HALF], 2),
    ],
    ids=["too long", "whole but wrong", "half and wrong", "no ranges", "416", "another range"],
)
def test_starts_again_where_it_cannot_go_on(server, target, part, path, held, requests):
    part.write_bytes(held)
    fetch(server.url + path, target)
    assert_whole(target)
    assert len(server.ranges) == requests


def test_a_wrong_hash_leaves_nothing(server, target):
    wrong = hashlib.sha256(CONTENT[::-1]).hexdigest()
    with pytest.raises(DownloadError, match=rf"/other gave .* {wrong}, wanted {SHA256}.*Do it by hand"):
        fetch(f"{server.url}/other", target)
    assert [path.name for path in target.parent.iterdir()] == [".a.zip.lock"]
    assert server.ranges == [None]


def test_a_wrong_hash_after_going_on_is_tried_once_more_only(server, target, part):
    part.write_bytes(CONTENT[:HALF])
    with pytest.raises(DownloadError, match="sha256"):
        download(f"{server.url}/file", target, len(CONTENT), "0" * 64)
    assert server.ranges == [f"bytes={HALF}-", None]
    assert not part.exists()


@pytest.mark.parametrize(("path", "came"), [("/login", r"19 bytes \(text/html\)"), ("/grown", "102,401 bytes")])
def test_another_length_is_refused_unread(server, target, part, path, came):
    part.write_bytes(CONTENT[:HALF])
    with pytest.raises(DownloadError, match=rf"{path} has {came}.*, wanted 102,400.*kept in .*a\.zip\.part"):
        fetch(server.url + path, target)
    assert part.read_bytes() == CONTENT[:HALF]
    assert len(server.ranges) == 1


def test_never_writes_more_than_wanted(server, target):
    fetch(f"{server.url}/endless", target)
    assert_whole(target)


def test_a_broken_connection_is_taken_up_again(server, target):
    server.cuts = [1000, 500]
    fetch(f"{server.url}/file", target)
    assert_whole(target)
    assert server.ranges == [None, "bytes=1000-", "bytes=1500-"]


def test_gives_up_after_three_attempts_and_keeps_what_came(server, target):
    server.cuts = [1000, 500, 0]
    message = r"broke off 3 times, the last after 1,500 of 102,400 bytes .* kept in .*a\.zip\.part.* Do it by hand"
    with pytest.raises(DownloadError, match=message):
        fetch(f"{server.url}/file", target)
    assert not target.exists()
    fetch(f"{server.url}/file", target)
    assert_whole(target)
    assert server.ranges[-1] == "bytes=1500-"


def test_a_silent_server_is_not_waited_for(server, target, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    server.cuts = [1000, 0, 0]
    with pytest.raises(DownloadError, match=r"after 1,000 of 102,400 bytes .*timed out"):
        fetch(f"{server.url}/stall", target)


def test_an_error_answer_is_told(server, target):
    with pytest.raises(DownloadError, match=r"/missing answered 404 Not Found\. Do it by hand\."):
        fetch(f"{server.url}/missing", target)
    assert server.ranges == [None]


def test_no_network(closed, target):
    with pytest.raises(DownloadError, match=rf"{closed} cannot be reached \(.*refused\)\. Do it by hand\."):
        fetch(closed, target)
    assert not target.exists()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.invalid/a.zip",
        "http://127.0.0.1.example.invalid/a.zip",
        "http://[::1/a.zip",
        "ftp://127.0.0.1/a.zip",
        "file:///etc/hostname",
        "https:///a.zip",
        "a.zip",
    ],
)
def test_only_https_and_own_addresses(server, target, url):
    with pytest.raises(DownloadError, match="refused: wanted https"):
        fetch(url, target)
    assert not target.exists()


@pytest.mark.parametrize("url", ["http://example.invalid/a.zip", "ftp://127.0.0.1/a.zip", "file:///etc/hostname"])
def test_a_redirect_leads_nowhere_else(server, target, url):
    server.location = url
    with pytest.raises(DownloadError, match=rf"{url}.*(refused: wanted https|not allowed)"):
        fetch(f"{server.url}/redirect", target)
    assert server.ranges == [None]
    assert not target.exists()


@pytest.mark.parametrize(
    "url", ["https://a.org/b", "http://localhost/b", "http://127.3.2.1:80/b", "http://[::1]/b"]
)
def test_accepted_addresses(url):
    assert module._is_allowed(url)


def test_follows_a_redirect_and_asks_for_the_rest_there(server, target, part):
    part.write_bytes(CONTENT[:HALF])
    server.location = "/file"
    fetch(f"{server.url}/redirect", target)
    assert_whole(target)
    assert server.ranges == [f"bytes={HALF}-"] * 2


def test_a_folder_that_cannot_be_made(server, target):
    target.parent.write_text("a file where the folder should be")
    with pytest.raises(DownloadError, match=r"a\.zip cannot be written \(.*Do it by hand"):
        fetch(f"{server.url}/file", target)
