"""The store's files in an object store, through fsspec: S3 above all, where If-None-Match keeps writers apart."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from cluster.store.local_files import local_fault
from runspec.errors import ConflictError, StoreError
from runspec.store_uri import carries_credentials

ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
S3_OPTIONS = {  # gives up soon on an endpoint that does not answer
    "config_kwargs": {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 2, "mode": "standard"}}
}
PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
}
"""The package with the fsspec filesystem of each scheme. All have an exclusive create; `Store.check` proves it."""
WRITER = "guitarfish-writer"
"""The metadata key of an object that says who wrote it."""
BUSY_RETRIES = 5

_KEYS = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the profile in AWS_PROFILE)."
_RIGHTS = "They need s3:GetObject, s3:PutObject, s3:ListBucket, and s3:DeleteObject for old checkpoints."
_LATER = "Try again later."
_CODES = {
    "InvalidAccessKeyId": ("The server does not know the access key", _KEYS),
    "SignatureDoesNotMatch": ("The secret key does not belong to the access key", _KEYS),
    "ExpiredToken": ("The credentials have expired", "Get new ones, for example with `aws sso login`."),
    "InvalidToken": ("The session token is not valid", "Check AWS_SESSION_TOKEN, or unset it."),
    "AccessDenied": ("Access to the store is denied", f"{_KEYS} {_RIGHTS}"),
    "InvalidBucketName": ("The bucket's name is not valid", "Use 3 to 63 lowercase letters, digits, dots, hyphens."),
    "PermanentRedirect": ("The bucket is in another region", "Set AWS_DEFAULT_REGION to the bucket's region."),
    "RequestTimeTooSkewed": ("This machine's clock is wrong", "Set the clock; S3 allows 15 minutes."),
    "SlowDown": ("The server asks to slow down", _LATER),
    "ServiceUnavailable": ("The server is not available", _LATER),
    "InternalError": ("The server had an internal error", f"{_LATER} Its logs have the cause."),
    "QuotaExceeded": ("The bucket's quota is used up", "Free some space, or raise the quota."),
    "XMinioStorageFull": ("The server's disks are full", "Free some space there."),
    "NotImplemented": ("The server lacks what the store needs", "Use one that supports If-None-Match on PUT."),
}  # fmt: skip
_SAME_AS = {
    "403": "AccessDenied",
    "Forbidden": "AccessDenied",
    "301": "PermanentRedirect",
    "AuthorizationHeaderMalformed": "PermanentRedirect",
    "503": "ServiceUnavailable",
}
_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "s3fs", "fsspec", "gcsfs", "adlfs", "azure", "google")


class RemoteFiles:
    """Files below a prefix of a bucket. Errors come as the filesystem raises them; `fault` explains them.

    Args:
        root: bucket and prefix, without slashes at the ends.

    Raises:
        StoreError: the scheme's package is missing, or the endpoint has a password in it.
    """

    def __init__(self, scheme: str, root: str) -> None:
        import fsspec

        self.root = root
        self.scheme = scheme
        self._is_s3 = scheme in ("s3", "s3a")
        for name in ENDPOINTS:
            if self._is_s3 and carries_credentials(os.environ.get(name, "")):
                fix = f"Set {name} to http(s)://host:port, and give the credentials in AWS_* variables."
                raise StoreError(f"{name} has a user or a password in it, which S3 ignores.", where=name, fix=fix)
        options = S3_OPTIONS if self._is_s3 else {}
        try:
            # Listings are never cached: others write to the store too.
            self._fs: Any = fsspec.filesystem(scheme, use_listings_cache=False, **options)
        except ImportError as error:
            what, fix = f"{scheme}:// needs the package {PACKAGES[scheme]}: {error}.", f"pip install {PACKAGES[scheme]}"
            raise StoreError(what, where=f"{scheme}://{root}", fix=fix) from error

    def create(self, path: str, data: bytes) -> None:
        self._exclusively(path, lambda **extra: self._fs.pipe_file(self._full(path), data, mode="create", **extra))

    def upload(self, local_file: Path, path: str) -> None:
        """Upload a file as a new object; a large one in parts, which become visible together."""
        full = self._full(path)
        self._exclusively(path, lambda **extra: self._fs.put_file(str(local_file), full, mode="create", **extra))

    def _exclusively(self, path: str, write: Callable[..., object]) -> None:
        """Write once.

        If an answer is lost after the object was written, the client's retry finds the name taken. The writer's mark
        in the metadata then shows whether the object is our own.
        """
        mark = uuid4().hex
        extra: dict[str, Any] = {"Metadata": {WRITER: mark}} if self._is_s3 else {}
        for attempt in range(BUSY_RETRIES):
            try:
                write(**extra)
            except Exception as error:
                if _code(error) == "ConditionalRequestConflict" and attempt < BUSY_RETRIES - 1:
                    time.sleep(0.1 * 2**attempt)  # another writer of the same name is at work
                    continue
                if not _is_taken(error) or not self._is_mine(path, mark):
                    raise
            return

    def _is_mine(self, path: str, mark: str) -> bool:
        if not self._is_s3:
            return False
        bucket, key, _ = self._fs.split_path(self._full(path))
        head = self._fs.call_s3("head_object", Bucket=bucket, Key=key)
        return bool(head.get("Metadata", {}).get(WRITER) == mark)

    def read(self, path: str) -> bytes:
        content: bytes = self._fs.cat_file(self._full(path), **self._one_request())
        return content

    def read_if_there(self, path: str) -> bytes | None:
        try:
            return self.read(path)
        except FileNotFoundError as error:
            if _code(error) not in ("", "NoSuchKey"):  # the bucket or the server is what is missing
                raise
            return None

    def read_many(self, paths: Sequence[str]) -> dict[str, bytes]:
        """The contents of several objects, read at the same time."""
        if not paths:
            return {}
        found = self._fs.cat([self._full(path) for path in paths], **self._one_request())
        return {path: found[self._full(path)] for path in paths}

    def _one_request(self) -> dict[str, int]:
        """s3fs asks for the size first unless it is told to read in one go."""
        return {"max_concurrency": 1} if self._is_s3 else {}

    def is_file(self, path: str) -> bool:
        try:
            return bool(self._fs.info(self._full(path))["type"] == "file")
        except FileNotFoundError as error:
            if _code(error) == "NoSuchBucket":
                raise
            return False

    def names(self, folder: str) -> list[str]:
        full = self._full(folder)
        try:
            found = self._fs.ls(full, detail=False)
        except FileNotFoundError as error:
            if _code(error) == "NoSuchBucket":
                raise
            return []
        return [name for path in found if (name := path.removeprefix(full).strip("/"))]

    def walk(self, folder: str) -> list[str]:
        """Paths of all objects below a folder: one request for each thousand."""
        return [path.removeprefix(self.root).strip("/") for path in self._fs.find(self._full(folder))]

    def download(self, path: str, local_file: Path) -> None:
        self._fs.get_file(self._full(path), str(local_file))

    def filesystem(self) -> tuple[Any, str]:
        return self._fs, self.root

    def fault(self, error: Exception, path: str) -> Exception | None:
        """The error to show for one of fsspec, s3fs or the client below them; None for any other."""
        from botocore import exceptions as boto
        from fsspec.exceptions import FSTimeoutError

        uri = f"{self.scheme}://{self._full(path)}"
        if _is_taken(error):
            return ConflictError(f"`{path}` is already in the store.", where=uri)
        server = next(filter(None, map(os.environ.get, ENDPOINTS)), "the provider")
        if self._is_s3:
            server = self._fs.client_kwargs.get("endpoint_url") or self._fs.endpoint_url or server
        text = str(error).strip()
        line = text.splitlines()[0][:200] if text else type(error).__name__
        code = _SAME_AS.get(_code(error), _code(error))
        fix = ""
        if code == "NoSuchBucket":
            bucket = self.root.partition("/")[0]
            what = f"Bucket `{bucket}` not found at {server}."
            fix = f"Create it (aws s3 mb s3://{bucket}), or correct `store`."
        elif code in _CODES:
            cause, fix = _CODES[code]
            what, uri = f"{cause} ({code}).", f"{uri} at {server}"
        elif isinstance(error, boto.SSLError):
            what = f"The connection to {server} is not trusted: {line}"
            fix = "Check the endpoint's certificate. AWS_CA_BUNDLE names a file of trusted ones."
        elif isinstance(error, boto.ConnectionError | boto.HTTPClientError | FSTimeoutError):
            what = f"{server} does not answer: {line}"
            fix = "Check AWS_ENDPOINT_URL, that the server runs, and the network."
        elif isinstance(error, boto.NoCredentialsError):
            what = "No credentials for the store."
            fix = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
        elif isinstance(error, boto.PartialCredentialsError):
            what, fix = "The store's credentials are not complete.", "Set both access key and secret key."
        elif isinstance(error, boto.ProfileNotFound):
            what, fix = "The profile in AWS_PROFILE does not exist.", "Check ~/.aws/config."
        elif isinstance(error, boto.NoRegionError):
            what, fix = "No region is set for the store.", "Set AWS_DEFAULT_REGION."
        elif isinstance(error, ValueError) and "endpoint" in text.lower():
            what, fix = f"`{server}` is not an endpoint.", "Set AWS_ENDPOINT_URL to http(s)://host:port."
        elif isinstance(error, OSError) and (error.filename or error.errno in (errno.ENOSPC, errno.EDQUOT)):
            return local_fault(error, Path(error.filename or ""))  # of the local file that is sent or received
        elif isinstance(error, FileNotFoundError) and code in ("", "NoSuchKey"):
            what = f"`{uri.rpartition('/')[2]}` not found."
        elif isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _CLIENTS:
            what = f"The store answered: {line}" + (f" ({code})" if code else "")
            fix = f"Check that {server} is an S3 server." if code in ("404", "405", "") else ""
        else:
            return None
        return StoreError(what, where=uri, fix=fix)

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root


def _code(error: BaseException) -> str:
    """The S3 error code in an exception or its causes; empty if there is none."""
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        seen = seen.__cause__
    return ""


def _is_taken(error: BaseException) -> bool:
    """Whether an exclusive create failed because the name is taken."""
    return isinstance(error, FileExistsError) or _code(error) in ("PreconditionFailed", "412")
