"""Conditional puts on object stores, which `pyarrow.fs` has not: by obstore, with the settings of the same URI."""

from __future__ import annotations

import functools
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from asrkd.errors import StoreError
from asrkd.extras import import_optional


def put(root: str, name: str, data: bytes) -> bool:
    """Put an object below a root such as `s3://bucket/prefix` if there is none of this name; whether it was put.

    Raises:
        OSError: it cannot be put.
        StoreError: another kind of storage than S3 and Google's.
        DependencyError: obstore is not installed.
    """
    need = f"tasks that share the store {root!r} without a coordinator need conditional puts"
    obstore = import_optional("obstore", need)
    errors = import_optional("obstore.exceptions", need)
    try:
        # A condition holds for a single put; obstore would cut large ones into parts.
        obstore.put(_bucket(root), name, data, mode="create", use_multipart=False)
    except errors.AlreadyExistsError:
        return False
    except errors.BaseError as error:
        raise OSError(" ".join(str(error).split())) from None
    return True


@functools.lru_cache(maxsize=32)
def _bucket(root: str) -> Any:
    from obstore.store import GCSStore, S3Store

    parts = urlsplit(root)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    prefix = parts.path.strip("/")
    if parts.scheme in ("gs", "gcs"):
        return GCSStore(parts.hostname, prefix=prefix)
    if parts.scheme != "s3":
        raise StoreError(
            f"store {root!r}: conditional puts are made on s3:// and gs:// only, so tasks without a coordinator cannot share it; "
            "label it with asrkd label run"
        )
    settings: dict[str, Any] = {}
    if parts.username:
        settings |= {"access_key_id": unquote(parts.username), "secret_access_key": unquote(parts.password or "")}
    if "region" in query:
        settings["region"] = query["region"]
    if "endpoint_override" in query:
        settings["endpoint"] = f"{query.get('scheme', 'https')}://{query['endpoint_override']}"
    plain = query.get("scheme") == "http"
    return S3Store(parts.hostname, prefix=prefix, client_options={"allow_http": plain}, **settings)
