"""A store's URI, as far as it can be judged without the store: it is written into records, so it holds no secret."""

from __future__ import annotations

import re


def carries_credentials(uri: str) -> bool:
    """Whether a URI has a user or password in it (`s3://KEY:SECRET@bucket`), or a query that may hold a token."""
    match = re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/*([^/]*)(.*)", uri, re.DOTALL)
    if match is None:
        return False
    remote = not uri.lower().startswith("file:")
    return remote and ("@" in match[1] or "?" in uri)
