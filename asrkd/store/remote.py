"""Object stores by URI, with limits on how long a server that does not answer is waited for."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pyarrow import fs

from asrkd.errors import DependencyError, StoreError

# Seconds: to be connected, and without a byte. Three attempts make half a minute at most.
_CONNECT, _REQUEST, _ATTEMPTS = 5.0, 10.0, 3
_S3_SETTINGS = {"region", "scheme", "endpoint_override", "allow_bucket_creation", "allow_bucket_deletion"}
_SCHEMES = "s3|gs|gcs|hdfs|viewfs|abfs|abfss|az|hf|http|https|file"
_HELP = "give a folder or a URI such as s3://bucket/prefix"
# Opens what stdin says, where the library may take the whole process with it.
_PROBE = "import sys; from pyarrow import fs; system, path = fs.FileSystem.from_uri(sys.stdin.read()); system.get_file_info(path)"


def check_local(root: str) -> None:
    """Refuse what looks like a URI or a path of another system, and would become a folder of a strange name here.

    Raises:
        StoreError: it does.
    """
    if re.match(rf"({_SCHEMES}):", root, re.IGNORECASE):
        scheme, _, rest = root.partition(":")
        raise StoreError(
            f"store {root!r} is neither a path nor a URI; did you mean '{scheme.lower()}://{rest.lstrip('/')}'? For a folder of that name give ./{root}"
        )
    if re.match(r"[A-Za-z]:\\", root) and sys.platform != "win32":
        raise StoreError(
            f"store {root!r} is a path of Windows, which this system would take for the name of one folder; {_HELP}"
        )


def open_remote(root: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of a URI, and the path in it.

    Raises:
        StoreError: the URI cannot be opened.
        DependencyError: its scheme needs a library that is not installed.
    """
    scheme = root.partition("://")[0].lower()
    try:
        if scheme == "s3":
            return _s3(root)
        if scheme in ("gs", "gcs") and "retry_limit_seconds" not in root:  # 15 minutes
            root += ("&" if "?" in root else "?") + "retry_limit_seconds=20"
        if scheme in ("abfs", "abfss"):
            _probe(root)
        system, base = fs.FileSystem.from_uri(root)
        return system, base.rstrip("/")
    except ImportError as error:
        needs = "huggingface_hub" if scheme == "hf" else f"a library ({error})"
        raise DependencyError(
            f"store {root!r}: {scheme}:// needs {needs}: pip install {needs if scheme == 'hf' else '...'}"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        # Of a library that it cannot load, Arrow lists every place where it looked.
        reason = str(error).partition("\ndlopen(")[0]
        help = (
            "install Java and Hadoop, and set JAVA_HOME, HADOOP_HOME and CLASSPATH" if reason != str(error) else _HELP
        )
        raise StoreError(f"store {root!r} cannot be opened ({' '.join(reason.split())}); {help}") from None


def _s3(root: str) -> tuple[fs.FileSystem, str]:
    parts = urlsplit(root)
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    bucket = unquote(parts.netloc.rpartition("@")[2])
    if not bucket or set(query) - _S3_SETTINGS:
        system, base = fs.FileSystem.from_uri(root)  # says what is wrong, or knows more
        return system, base.rstrip("/")
    if "region" not in query and "endpoint_override" not in query:
        query["region"] = _region(bucket)
    settings: dict[str, Any] = {
        key: value.lower() == "true" if key.startswith("allow_") else value for key, value in query.items()
    }
    if parts.username:
        settings |= {"access_key": unquote(parts.username), "secret_key": unquote(parts.password or "")}
    retries = fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS)
    system = fs.S3FileSystem(connect_timeout=_CONNECT, request_timeout=_REQUEST, retry_strategy=retries, **settings)
    return system, f"{bucket}/{unquote(parts.path).strip('/')}".rstrip("/")


def _region(bucket: str) -> str:
    """The region of a bucket, asked of AWS, which without a network takes minutes to give up."""
    found: list[str | Exception] = []

    def ask() -> None:
        try:
            found.append(fs.resolve_s3_region(bucket))
        except Exception as error:
            found.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_CONNECT + 2 * _REQUEST)
    answer = (
        found[0]
        if found
        else OSError(
            f"AWS does not say within {_CONNECT + 2 * _REQUEST:g} s in which region bucket {bucket!r} is; add ?region=..."
        )
    )
    if isinstance(answer, Exception):
        raise answer
    return answer


def _probe(root: str) -> None:
    """Open a URI in another process first: without credentials Azure's library aborts the process that asks.

    Raises:
        OSError: it cannot be opened, or not within a minute.
    """
    try:
        done = subprocess.run([sys.executable, "-c", _PROBE], input=root, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        raise OSError("no answer within 60 s") from None
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        what = [line.removeprefix("what():").strip() for line in said if line.startswith("what():")]
        raise OSError(what[0] if what else said[-1])
