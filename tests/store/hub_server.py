"""A hub on this machine: as much of its protocol as huggingface_hub's client asks of one for a dataset."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


def commit_of(files: dict[str, bytes]) -> str:
    """A commit's hash, which its files alone decide."""
    return hashlib.sha1(b"".join(name.encode() + data for name, data in sorted(files.items()))).hexdigest()


class HubServer(ThreadingHTTPServer):
    """Datasets in memory: files by name, by repository. What was asked is in `asked`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.datasets: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, value: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), Content_Type="application/json")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_POST(self) -> None:
        path, body = urlsplit(self.path).path, self._body()
        self.server.asked.append(f"POST {path}")
        if path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            made = json.loads(body)
            name = f"{made['organization']}/{made['name']}"
            status = 409 if name in self.server.datasets else 200
            self.server.datasets.setdefault(name, {})
            self._json({"url": f"{self.server.endpoint}/datasets/{name}", "id": name}, status)
        elif match := re.fullmatch(r"/api/datasets/(.+/.+)/preupload/main", path):
            asked = json.loads(body)["files"]
            self._json(
                {"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in asked]}
            )
        elif match := re.fullmatch(r"/api/datasets/(.+/.+)/commit/main", path):
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.server.datasets[match[1]][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            commit = commit_of(self.server.datasets[match[1]])
            url = f"{self.server.endpoint}/datasets/{match[1]}/commit/{commit}"
            self._json({"success": True, "commitOid": commit, "commitUrl": url})
        else:
            self._json({"error": "not found"}, 404)

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        match = re.fullmatch(r"(?:/api)?/datasets/([^/]+/[^/]+)(?:/(revision|tree|resolve)/([^/]+)/?(.*))?", path)
        files = self.server.datasets.get(match[1]) if match else None
        if match is None or files is None:
            self._answer(404, b'{"error": "Repository not found"}', X_Error_Code="RepoNotFound")
        elif match[2] == "resolve":
            data = files.get(match[4])
            if data is None:
                self._answer(404, X_Error_Code="EntryNotFound")
            else:
                self._answer(200, data, ETag=f'"{hashlib.sha1(data).hexdigest()}"', X_Repo_Commit=commit_of(files))
        elif match[2] == "tree":
            self._json(
                [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in files.items()
                ]
            )
        else:
            self._json(
                {
                    "id": match[1],
                    "sha": commit_of(files),
                    "siblings": [{"rfilename": name} for name in files],
                    "private": False,
                    "tags": [],
                }
            )

    do_HEAD = do_GET


@contextmanager
def hub() -> Iterator[HubServer]:
    """A hub that is there while the block runs."""
    with HubServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
