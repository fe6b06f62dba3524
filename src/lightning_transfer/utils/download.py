"""Fetches one large file of known SHA-256; resumes, and moves it into place once it is whole."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from lightning_transfer.errors import DownloadError
from lightning_transfer.utils.locking import locked

ATTEMPTS = 3
PAUSE = 1.0  # seconds between two attempts
TIMEOUT = 30.0  # seconds for each connection and each read
CHUNK = 1 << 20  # bytes

ALLOWED = "wanted https, or http on this machine's own addresses"
REPLACED = (
    "the file was replaced at its source, or something between (a login page of the network, a proxy) answers "
    "in its place"
)
CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")


def download(url: str, target: Path, size: int | None, sha256: str, remedy: str = "") -> Path:
    """Fetches a file unless it is there already, and returns `target`.

    What has come lies in `target` + ".part" until it is whole and checked; a later call goes on from there.
    Of several processes that ask at once, one fetches and the others wait for it.

    Args:
        url: https; plain http is accepted for this machine's own addresses alone, after redirects too.
        target: Where the file shall lie; missing folders are made.
        size: In bytes; None where nobody has published it, and the server is asked.
        sha256: 64 hexadecimal digits, lower case, or as many of the first as are published.
        remedy: What a person can do instead; a sentence that ends every error's message.

    Raises:
        DownloadError: Another file lies at `target` (it stays as it is), `url` cannot be reached, breaks off
            again and again or gives something else, or the folder cannot be written.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        if not _is_there(target, size, sha256):
            target.parent.mkdir(parents=True, exist_ok=True)
            with locked(target.with_name(f".{target.name}.lock")):
                # Another process may have fetched it while this one waited.
                if not _is_there(target, size, sha256):
                    _fetch(url, part, size, sha256)
                    part.replace(target)
    except (OSError, DownloadError) as error:
        what = str(error) if isinstance(error, DownloadError) else f"{target} cannot be written ({error})."
        if part.exists():
            what += f" What came so far is kept in {part}: the same command goes on from there."
        raise DownloadError(f"{what} {remedy}".rstrip()) from error
    return target


def _is_there(target: Path, size: int | None, sha256: str) -> bool:
    if not target.exists():
        return False
    length = target.stat().st_size
    if size in (None, length) and _sha256(target).startswith(sha256):
        return True
    wanted = "those" if size is None else f"{size:,}"
    raise DownloadError(
        f"{target} is another file: it has {length:,} bytes, wanted {wanted} with the sha256 {sha256}. "
        "Move or remove it."
    )


def _fetch(url: str, part: Path, size: int | None, sha256: str) -> None:
    """Makes `part` the whole file, checked and on the disk."""
    if not _is_allowed(url):
        raise DownloadError(f"{url} is refused: {ALLOWED}.")
    at_once = _fill(url, part, size, sha256)
    digest = _sha256(part)
    if not digest.startswith(sha256) and not at_once:
        # The pieces may come from two versions of the file: once more, from its beginning.
        part.unlink()
        _fill(url, part, size, sha256)
        digest = _sha256(part)
    if not digest.startswith(sha256):
        part.unlink()
        raise DownloadError(
            f"{url} gave a file with the sha256 {digest}, wanted {sha256}: {REPLACED}. It is removed again."
        )
    with part.open("r+b") as file:
        os.fsync(file.fileno())


def _fill(url: str, part: Path, size: int | None, sha256: str) -> bool:
    """Receives until `part` has all its bytes; returns whether one answer gave them."""
    if size is not None and _length(part) > size:
        part.unlink()
    if part.exists() and (_sha256(part).startswith(sha256) if size is None else _length(part) == size):
        return False
    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    name = TextColumn("{task.description}", markup=False)
    # Not among what a command prints.
    with Progress(name, *columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(part.stem, total=size)
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(PAUSE)
            try:
                return _receive(url, part, size, bar, task) == 0
            except _StaleError as error:
                part.unlink(missing_ok=True)
                reason = str(error)
            except _BrokenError as error:
                reason = str(error)
    held = f"{_length(part):,} bytes" if size is None else f"{_length(part):,} of {size:,} bytes"
    raise DownloadError(f"{url} broke off {ATTEMPTS} times, the last after {held} ({reason}).")


def _receive(url: str, part: Path, size: int | None, bar: Progress, task: TaskID) -> int:
    """Asks once for what `part` lacks, and appends it; returns the position of the first byte that came."""
    held = _length(part)
    # Compressed on its way, a file would have another length, and no resumable positions.
    headers = {"Accept-Encoding": "identity", "User-Agent": "lightning-transfer"}
    if held:
        headers["Range"] = f"bytes={held}-"
    with _network(url):
        response: HTTPResponse = build_opener(_Redirects).open(Request(url, headers=headers), timeout=TIMEOUT)
    with response:
        start, total = _span(response, url, held, size)
        position = start
        with part.open("ab" if start else "wb") as file:
            while position < total:
                with _network(url):
                    chunk = response.read1(min(CHUNK, total - position))
                if not chunk:
                    raise _BrokenError("the answer ended early")
                file.write(chunk)
                position += len(chunk)
                bar.update(task, completed=position, total=total)
    return start


def _span(response: HTTPResponse, url: str, held: int, size: int | None) -> tuple[int, int]:
    """The position of the answer's first byte and the file's length; another file is refused unread."""
    start, total = 0, response.length
    if response.status == 206:
        match = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != held:
            raise _StaleError("the server gave another range than the one asked for")
        start, total = held, None if match[2] == "*" else int(match[2])
    kind = response.headers.get_content_type()
    if kind == "text/html" or (size is not None and total not in (None, size)):
        came = kind if total is None else f"{total:,} bytes ({kind})"
        raise DownloadError(f"{url} has {came}, wanted {'a file' if size is None else f'{size:,}'}: {REPLACED}.")
    length = total if size is None else size
    if length is None:
        raise DownloadError(f"{url} does not say how long the file is, so that a part of it could not be told.")
    return start, length


class _BrokenError(Exception):
    """The connection ended early; another attempt may get the rest."""


class _StaleError(Exception):
    """The server cannot go on from what is held; another attempt starts from the beginning."""


@contextmanager
def _network(url: str) -> Iterator[None]:
    """Tells what one more attempt may mend from what it will not."""
    try:
        yield
    except HTTPError as error:
        error.close()
        if error.code == 416:
            raise _StaleError("the server has no such range") from error
        raise DownloadError(f"{url} answered {error.code} {' '.join(str(error.reason).split())}.") from error
    except URLError as error:
        raise DownloadError(f"{url} cannot be reached ({error.reason}).") from error
    except (OSError, HTTPException, ValueError) as error:  # the last for a redirect to a malformed address
        raise _BrokenError(str(error) or type(error).__name__) from error


class _Redirects(HTTPRedirectHandler):
    """Follows a redirect only to where `download` itself may go."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if not _is_allowed(newurl):
            fp.close()
            raise DownloadError(f"{req.full_url} redirects to {newurl}, which is refused: {ALLOWED}.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_allowed(url: str) -> bool:
    """Whether nobody between can read or change what `url` gives.

    >>> [_is_allowed(f"{start}/a.zip") for start in ("https://a.org", "http://127.0.0.1:80", "http://a.org")]
    [True, True, False]
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme == "http":
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a malformed address, or a name where a number is needed
        return False
    return parts.scheme == "https" and bool(host)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
