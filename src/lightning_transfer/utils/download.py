"""Download one file of known sha256, once."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pooch import HTTPDownloader

from lightning_transfer.errors import DownloadError
from lightning_transfer.utils.files import lock_of, locked, remove_parts, sha256_of, whole_file

TIMEOUT = 30.0  # seconds for each connection and each read


def download(url: str, target: Path, sha256: str, remedy: str = "") -> Path:
    """Fetch a file unless it is there already, and return `target`.

    The file is written beside `target` and moved there once its sha256 is right. Of several processes that ask at
    once, one fetches and the others wait for it. A progress bar is drawn on stderr.

    Args:
        url: https; http is accepted for this machine's own addresses only, after redirects too.
        target: Where the file shall be; missing folders are made.
        sha256: 64 hexadecimal digits, lower case, or as many of the first as are published.
        remedy: What a person can do instead; a sentence that ends every error's message.

    Raises:
        DownloadError: Another file is at `target` (it is left there), `url` cannot be reached or gives something
            else, or the folder cannot be written.
    """
    try:
        if not _is_there(target, sha256):
            target.parent.mkdir(parents=True, exist_ok=True)
            with locked(lock_of(target)):
                if not _is_there(target, sha256):  # another process may have fetched it while this one waited
                    remove_parts(target)
                    with whole_file(target) as part:
                        _fetch(url, part, sha256)
    except DownloadError as error:
        raise DownloadError(f"{error} {remedy}".rstrip()) from error
    except OSError as error:  # also what requests raises
        raise DownloadError(f"{url} cannot be fetched to {target} ({error}). {remedy}".rstrip()) from error
    return target


def _is_there(target: Path, sha256: str) -> bool:
    if not target.exists():
        return False
    if (found := sha256_of(target)).startswith(sha256):
        return True
    raise DownloadError(
        f"{target} is another file: its sha256 is {found}, wanted {sha256}. Move or remove it, and it is fetched."
    )


def _fetch(url: str, part: Path, sha256: str) -> None:
    _check_address(url)
    # Compressed on its way, a file would have another length, and the progress bar would not fit.
    headers = {"Accept-Encoding": "identity", "User-Agent": "lightning-transfer"}
    fetch = HTTPDownloader(progressbar=True, timeout=TIMEOUT, headers=headers, hooks={"response": _check_response})
    fetch(url, str(part), None)
    if not (found := sha256_of(part)).startswith(sha256):
        raise DownloadError(
            f"{url} gave a file with the sha256 {found}, wanted {sha256}: the file was replaced at its source, or "
            "a login page of the network or a proxy answers in its place. It is removed again."
        )


def _check_response(response: Any, **_: Any) -> None:
    """Refuse the answer of an address that a redirect led to and that `download` itself refuses."""
    _check_address(response.url)


def _check_address(url: str) -> None:
    if not is_allowed(url):
        raise DownloadError(f"{url} is refused: wanted https, or http on this machine's own addresses.")


def is_allowed(url: str) -> bool:
    """Return whether nobody on the way can read or change what `url` gives.

    >>> [is_allowed(f"{start}/a.zip") for start in ("https://a.org", "http://127.0.0.1:80", "http://a.org")]
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
