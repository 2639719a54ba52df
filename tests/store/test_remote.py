"""URIs that cannot be used, and object stores that do not answer: an error within seconds, with the true reason."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator

import pytest
from s3_server import S3Server

from asrkd.cli import cli
from asrkd.cli.command import run_command
from asrkd.errors import DependencyError, StoreError
from asrkd.store import Store, files, remote
from asrkd.store.files import Files


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.close()


@pytest.mark.parametrize(
    ("root", "reason"),
    [
        ("s3:/bucket/x", "did you mean 's3://bucket/x'"),
        ("S3:bucket/x", "did you mean 's3://bucket/x'"),
        ("file:/x", "did you mean 'file://x'"),
        ("C:\\data\\store", "path of Windows"),
        ("s3:///x", "Missing bucket name"),
        ("s3://bucket/x?regio=us", "query parameter .*'regio'"),
        ("http://127.0.0.1:1/x", "Unrecognized filesystem type"),
        ("what://bucket/x", "Unrecognized filesystem type"),
        ("file://host/x", "hostname"),
    ],
)
def test_a_uri_that_cannot_be_used_says_why(root: str, reason: str) -> None:
    with pytest.raises(StoreError, match=reason):
        Store.open(root)


def test_hugging_face_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DependencyError, match="hf:// needs huggingface_hub: pip install huggingface_hub"):
        Store.open("hf://datasets/a/without-library")


def test_a_library_that_aborts_takes_no_command_with_it() -> None:
    # Without credentials Azure's library throws in a place where nobody catches.
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.open("abfs://container@127.0.0.1:1/x")


def test_errors_of_other_kinds_below_a_filesystem_are_store_errors(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd:
        def open_input_stream(self, *_: object, **__: object) -> object:
            raise RuntimeError("the hub answered 429")

    monkeypatch.setattr(Files, "filesystem", (Odd(), "x"))
    monkeypatch.setattr(files, "_WAITS", ())
    with pytest.raises(StoreError, match="RuntimeError: the hub answered 429"):
        Files(s3.uri("x")).read("manifest.json")


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert remote._CONNECT + remote._ATTEMPTS * remote._REQUEST <= 40 and files._PATIENCE <= 10
    monkeypatch.setattr(remote, "_REQUEST", 1.0)
    monkeypatch.setattr(files, "_PATIENCE", 1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        for port, reason in ((silent.getsockname()[1], "Timeout was reached"), (1, "Could not connect")):
            root = f"s3://key:secret@speech/x?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
            began = time.monotonic()
            with pytest.raises(StoreError, match=reason):
                Store.open(root)
            assert time.monotonic() - began < 20


def test_wrong_credentials_and_a_missing_bucket_are_told_at_once(
    s3: S3Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.monotonic()
    with s3.faults(lambda *_: "forbidden"), pytest.raises(StoreError, match="ACCESS_DENIED"):
        Store.open(s3.uri("denied"))
    nowhere = s3.uri("x").replace("@speech/", "@nowhere/")
    with pytest.raises(StoreError, match="NO_SUCH_BUCKET"):
        Files(nowhere).write("a", b"x")
    # The secret of a URI is in no line.
    monkeypatch.setattr("sys.argv", ["asrkd", "store", "info", nowhere])
    with pytest.raises(SystemExit):
        run_command(cli)
    said = capsys.readouterr().err
    assert "key:***@nowhere" in said and "secret" not in said and len(said.splitlines()) == 1
    assert time.monotonic() - began < 10
