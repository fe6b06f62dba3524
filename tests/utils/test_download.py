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


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT; the path says with which fault."""

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path == "/missing":
            return self.send_error(404)
        self.send_response(302 if self.path == "/redirect" else 200)
        if self.path == "/redirect":
            self.send_header("Location", self.server.location)
        body = {"/file": CONTENT, "/login": b"<html>Log in</html>", "/redirect": b""}.get(
            self.path, CONTENT[:1000]
        )
        self.send_header("Content-Length", str(len(body) if self.path == "/login" else len(CONTENT)))
        self.end_headers()
        self.wfile.write(body)
        if self.path == "/stall":
            self.server.go_on.wait(20)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked, server.location, server.go_on = [], "", threading.Event()
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
def closed(monkeypatch):
    """An address where nobody listens."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}/file"


def assert_nothing_but_the_lock(target):
    assert [path.name for path in target.parent.iterdir()] == [".a.zip.lock"]


@pytest.mark.parametrize("digest", [SHA256, SHA256[:8]], ids=["whole sha256", "first digits"])
def test_it_fetches_once_and_shows_progress(server, target, capsys, digest):
    for _ in range(2):
        assert download(f"{server.url}/file", target, digest) == target
    assert target.read_bytes() == CONTENT
    assert {path.name for path in target.parent.iterdir()} == {"a.zip", ".a.zip.lock"}
    assert server.asked == ["/file"]
    said = capsys.readouterr()
    assert said.out == ""
    assert "100%" in said.err


def test_a_right_file_needs_no_network(closed, target):
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    assert download(closed, target, SHA256) == target
    assert list(target.parent.iterdir()) == [target]


def test_another_file_stays_and_is_told(server, target):
    target.parent.mkdir()
    target.write_bytes(b"other")
    with pytest.raises(DownloadError, match=rf"a\.zip is another file.* wanted {SHA256}\. Move or .* By hand\."):
        download(f"{server.url}/file", target, SHA256, "By hand.")
    assert target.read_bytes() == b"other"
    assert server.asked == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/login", "gave a file with the sha256 .*a login page"),
        ("/short", "cannot be fetched|gave a file with the sha256"),
        ("/missing", "404"),
        ("/stall", "timed out"),
    ],
)
def test_what_is_not_the_file_leaves_nothing(server, target, monkeypatch, path, message):
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    with pytest.raises(DownloadError, match=rf"(?s){path}.*({message}).*By hand\.$"):
        download(server.url + path, target, SHA256, "By hand.")
    assert_nothing_but_the_lock(target)
    assert download(f"{server.url}/file", target, SHA256).read_bytes() == CONTENT


def test_no_network(closed, target):
    with pytest.raises(DownloadError, match=rf"{closed} cannot be fetched .*refused.*By hand\."):
        download(closed, target, SHA256, "By hand.")
    assert_nothing_but_the_lock(target)


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
def test_only_https_and_own_addresses(target, url):
    with pytest.raises(DownloadError, match="refused: wanted https"):
        download(url, target, SHA256)
    assert_nothing_but_the_lock(target)


@pytest.mark.parametrize(
    "url", ["https://a.org/b", "http://localhost/b", "http://127.3.2.1:80/b", "http://[::1]/b"]
)
def test_accepted_addresses(url):
    assert module.is_allowed(url)


def test_a_redirect_is_followed_to_where_download_may_go(server, target):
    server.location = "/file"
    assert download(f"{server.url}/redirect", target, SHA256).read_bytes() == CONTENT


@pytest.mark.parametrize("location", ["other", "ftp://127.0.0.1/a.zip", "file:///etc/hostname"])
def test_a_redirect_leads_nowhere_else(server, target, location, monkeypatch):
    """`other` is a name that leads to this machine, and that nobody could know for its own."""
    if location == "other":
        resolve = socket.getaddrinfo
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, *a, **k: resolve(host.replace("example.invalid", "127.0.0.1"), *a, **k),
        )
        monkeypatch.setenv("no_proxy", "*")
        location = f"http://example.invalid:{server.server_port}/file"
    server.location = location
    with pytest.raises(DownloadError, match=r"refused: wanted https|No connection adapters"):
        download(f"{server.url}/redirect", target, SHA256)
    assert_nothing_but_the_lock(target)


def test_a_folder_that_cannot_be_made(server, target):
    target.parent.write_text("a file where the folder should be")
    with pytest.raises(DownloadError, match=r"a\.zip \(.*By hand\."):
        download(f"{server.url}/file", target, SHA256, "By hand.")
