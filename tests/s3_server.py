"""A real S3 endpoint (moto's server) on a port of this machine, which can be made to fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

BUCKET = "speech"


@dataclass(frozen=True)
class Request:
    """What was asked, and how many bytes of body were answered."""

    method: str
    path: str
    query: str
    sent: int


class S3Server:
    """Moto behind a gate: `fault(number, method, path?query)` may answer `unavailable`, `forbidden` or `truncated` for a request."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.fault: Callable[[int, str, str], str | None] = lambda number, method, path: None
        self._application = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self._server.port}",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            region_name="us-east-1",
        )
        self.client.create_bucket(Bucket=BUCKET)

    def uri(self, prefix: str) -> str:
        where = f"endpoint_override=127.0.0.1:{self._server.port}&scheme=http&region=us-east-1"
        return f"s3://key:secret@{BUCKET}/{prefix}?{where}"

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Every object below a prefix, by its name there."""
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/").get("Contents", [])
        keys = [one["Key"] for one in found if not one["Key"].endswith("/")]
        return {key[len(prefix) + 1 :]: self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}

    @contextmanager
    def faults(self, fault: Callable[[int, str, str], str | None]) -> Iterator[None]:
        """Within the block, requests fail as `fault` says."""
        before, self.fault = self.fault, fault
        try:
            yield
        finally:
            self.fault = before

    def close(self) -> None:
        self._server.shutdown()

    def _answer(self, environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environment["REQUEST_METHOD"], environment["PATH_INFO"]
        query = environment.get("QUERY_STRING", "")
        fault = self.fault(len(self.requests), method, f"{path}?{query}")
        body: list[bytes] = []
        if fault in ("unavailable", "forbidden"):
            status, code = {
                "unavailable": ("503 Slow Down", "SlowDown"),
                "forbidden": ("403 Forbidden", "AccessDenied"),
            }[fault]
            start(status, [("Content-Type", "application/xml")])
            body = [f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()]
        else:
            body = list(self._application(environment, start))
            if fault == "truncated":
                whole = b"".join(body)
                body = [whole[: len(whole) // 2]]
        self.requests.append(Request(method, path, query, sum(map(len, body))))
        return body
