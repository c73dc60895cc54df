"""What went wrong with the store, in the user's words: the cause and the fix for what filesystems and S3 raise."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from cluster.paths import TEMPORARY
from runspec.errors import StoreError

_KEYS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the profile in AWS_PROFILE)"
_SET_KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
_CODES = {
    "InvalidAccessKeyId": ("the server does not know the access key", _KEYS),
    "SignatureDoesNotMatch": ("the secret key does not belong to the access key", _KEYS),
    "ExpiredToken": ("the credentials have expired", "get new ones, for example with `aws sso login`"),
    "InvalidToken": ("the session token is not valid", "check AWS_SESSION_TOKEN, or unset it"),
    "AccessDenied": (
        "access is denied",
        f"{_KEYS}; they need s3:GetObject, s3:PutObject, s3:ListBucket, and s3:DeleteObject for old checkpoints",
    ),
    "InvalidBucketName": ("the bucket's name is not valid", "3 to 63 small letters, digits, dots and hyphens"),
    "PermanentRedirect": ("the bucket is in another region", "set AWS_DEFAULT_REGION to the bucket's region"),
    "RequestTimeTooSkewed": ("this machine's clock is wrong", "set the clock; S3 allows 15 minutes"),
    "SlowDown": ("the server asks to slow down", "try again later"),
    "ServiceUnavailable": ("the server is not available", "try again later"),
    "InternalError": ("the server met a fault of its own", "try again later; its logs have the cause"),
    "QuotaExceeded": ("the bucket's quota is used up", "make room or raise it"),
    "XMinioStorageFull": ("the server's disks are full", "make room there"),
    "NotImplemented": ("the server lacks what the store needs", "it has to support If-None-Match on PUT"),
}
_SAME_AS = {
    "403": "AccessDenied",
    "Forbidden": "AccessDenied",
    "301": "PermanentRedirect",
    "AuthorizationHeaderMalformed": "PermanentRedirect",
    "503": "ServiceUnavailable",
}
_CLASSES = {
    "NoCredentialsError": ("there are no credentials", _SET_KEYS),
    "PartialCredentialsError": ("the credentials are not complete", "set both access key and secret key"),
    "ProfileNotFound": ("the profile in AWS_PROFILE does not exist", "check ~/.aws/config"),
    "NoRegionError": ("no region is set", "set AWS_DEFAULT_REGION"),
}
_UNREACHABLE = (
    "EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError", "FSTimeoutError",
    "ProxyConnectionError", "HTTPClientError",
)  # fmt: skip


def error_code(error: BaseException) -> str:
    """The S3 error code in an exception or its causes; empty if there is none."""
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        seen = seen.__cause__
    return ""


def says_taken(error: BaseException) -> bool:
    """Whether an exclusive create failed because the name is taken."""
    return isinstance(error, FileExistsError) or error_code(error) in ("PreconditionFailed", "412")


def says_missing(error: FileNotFoundError) -> bool:
    """Whether it is the file that is missing, and not the bucket or the server."""
    return error_code(error) in ("", "NoSuchKey")


def remote_fault(error: Exception, uri: str, bucket: str, endpoint: str | None) -> StoreError | None:
    """The error to show for one of an object store; None if it is not the object store's.

    Args:
        error: from fsspec, s3fs or the client below them.
        uri: what was to be read or written.
        endpoint: the server, where it is not the provider's own.
    """
    names = [kind.__name__ for kind in type(error).__mro__]
    server = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "the provider"
    code = error_code(error)
    code = _SAME_AS.get(code, code)
    if code == "NoSuchBucket":
        fix = f"create it (aws s3 mb s3://{bucket}), or correct the store's URI"
        return StoreError(f"there is no bucket {bucket!r} at {server}", where=uri, fix=fix)
    if code in _CODES:
        what, fix = _CODES[code]
        return StoreError(f"the store cannot be used: {what} ({code})", where=f"{uri} at {server}", fix=fix)
    if "SSLError" in names:
        fix = "check the endpoint's certificate; AWS_CA_BUNDLE names a file of trusted ones"
        return StoreError(f"the connection to {server} is not trusted: {_line(error)}", where=uri, fix=fix)
    for name in names:
        if name in _CLASSES:
            what, fix = _CLASSES[name]
            return StoreError(f"the store cannot be used: {what}", where=uri, fix=fix)
        if name in _UNREACHABLE:
            fix = "check AWS_ENDPOINT_URL, that the server runs, and the network"
            return StoreError(f"{server} does not answer: {_line(error)}", where=uri, fix=fix)
    if "ValueError" in names and "endpoint" in str(error).lower():
        return StoreError(f"{server!r} is not an endpoint", where=uri, fix="AWS_ENDPOINT_URL is http(s)://host:port")
    return _other(error, uri, code, server)


def _other(error: Exception, uri: str, code: str, server: str) -> StoreError | None:
    if isinstance(error, OSError) and (error.filename or error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return local_fault(error, Path(), error.filename or "")  # of the local file that is sent or received
    if isinstance(error, FileNotFoundError) and says_missing(error):
        return StoreError("there is no such file in the store", where=uri)
    module = type(error).__module__.partition(".")[0]
    clients = ("botocore", "aiobotocore", "aiohttp", "s3fs", "fsspec", "gcsfs", "adlfs", "azure", "google")
    if isinstance(error, OSError) or module in clients:
        fix = f"is {server} an S3 server?" if code in ("404", "405", "") else ""
        return StoreError(f"the store answered: {_line(error)}" + (f" ({code})" if code else ""), where=uri, fix=fix)
    return None


def local_fault(error: OSError, root: Path, path: str) -> StoreError:
    """The error to show for one of a local folder."""
    named = str(error.filename or "")
    where = named if named and not Path(named).name.startswith(TEMPORARY) else str(root / path)
    number = error.errno
    if number in (errno.ENOSPC, errno.EDQUOT):
        return StoreError("the disk is full", where=where, fix="make room, or set `store` to a folder on another disk")
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        what = "is read-only" if number == errno.EROFS else "may not be read or written by this user"
        fix = "change its permissions, or set another `store`"
        return StoreError(f"the store's folder {what}", where=where, fix=fix)
    if number in (errno.ENOTDIR, errno.EEXIST):
        blocking = _blocking_file(root / path)
        what = f"{blocking} is a file where the store needs a folder" if blocking else f"{where} is in the way"
        return StoreError(what, where=where, fix="move it away, or set `store` to another folder")
    if number == errno.EISDIR:
        return StoreError("there is a folder where the store needs a file", where=where, fix="move it away")
    if number == errno.ENOENT:
        return StoreError("there is no such file in the store", where=where)
    return StoreError(f"the store cannot be used: {error.strerror or error}", where=where)


def _blocking_file(path: Path) -> Path | None:
    return next((parent for parent in path.parents if parent.exists() and not parent.is_dir()), None)


def _line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
