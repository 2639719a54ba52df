"""Fetches a corpus from its own home."""

from __future__ import annotations

import shutil
import tarfile
import urllib.request
from pathlib import Path

from asrkd.errors import CorpusError


def download_archive(address: str, folder: Path) -> Path:
    """Unpack the tar archive at `address` as `folder`, unless it is there; returns `folder`.

    The archive's single top folder becomes `folder`, which appears whole or not at all.

    Raises:
        CorpusError: the archive cannot be fetched or unpacked.
    """
    if folder.exists():
        return folder
    archive, unpacked = folder.with_suffix(".tar.part"), folder.with_suffix(".part")
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(address) as response, open(archive, "wb") as stream:
            shutil.copyfileobj(response, stream)
        shutil.rmtree(unpacked, ignore_errors=True)
        with tarfile.open(archive) as packed:
            packed.extractall(unpacked, filter="data")
        (inner,) = unpacked.iterdir()
        inner.rename(folder)
    except (OSError, ValueError, tarfile.TarError) as error:
        raise CorpusError(
            f"the corpus cannot be fetched from {address} ({error}); fetch it yourself and give its folder with --corpus-dir"
        ) from None
    shutil.rmtree(unpacked, ignore_errors=True)
    archive.unlink()
    return folder
