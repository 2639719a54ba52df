"""Hugging Face's hub, by its own client: what is there as a local folder, and folders to there.

The client keeps what it fetched (`HF_HOME`), resumes, and signs in as `hf auth login` or `HF_TOKEN` say; `HF_ENDPOINT` names another hub.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrkd.errors import AsrkdError, CorpusError, ModelError, one_line
from asrkd.extras import import_optional
from asrkd.files import refused

PREFIX = "hf://"
_URI = re.compile(r"hf://datasets/(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?(?:/(?P<path>.*))?")
_REPO = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)
# What a disk refuses by, rather than a server.
_DISK = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
)
# Seconds after which a hub that does not answer is told.
_PATIENCE = 10
# A hub that does not answer within this time is taken for unreachable, where a model may be in the cache.
_MODEL_SECONDS = 5


@dataclass(frozen=True)
class HubPath:
    """A dataset of the hub, or some of its files.

    Attributes:
        repo: `OWNER/NAME`.
        revision: a branch, a tag or a commit; None for the main branch.
        path: below its root; a folder, a file or a glob; empty for all.
    """

    repo: str
    revision: str | None = None
    path: str = ""

    @classmethod
    def parse(cls, uri: str) -> HubPath:
        """Of `hf://datasets/OWNER/NAME[@REVISION][/PATH]`.

        Raises:
            CorpusError: it has another form.
        """
        match = _URI.fullmatch(uri)
        if not match:
            raise CorpusError(
                f"{uri!r} names no dataset of the hub; write hf://datasets/OWNER/NAME, and @REVISION or /PATH behind it"
            )
        return cls(match["repo"], match["revision"], (match["path"] or "").strip("/"))


def check_repo(repo: str) -> str:
    """The name of a repository.

    Raises:
        AsrkdError: it is not `OWNER/NAME`.
    """
    if not _REPO.fullmatch(repo):
        raise AsrkdError(f"{repo!r} is not the name of a repository; write OWNER/NAME")
    return repo


def client() -> Any:
    """huggingface_hub's `HfApi`.

    Raises:
        DependencyError: it is not installed.
    """
    return _library().HfApi(endpoint=_endpoint(), library_name="asrkd")


def fetch(place: HubPath, folder: Path | None = None) -> Path:
    """Bring a dataset's files to this machine, into the client's cache or a folder; returns the folder of the dataset.

    What is in the cache already is not fetched again, and is used when there is no network.

    Raises:
        AsrkdError: there is no such dataset, or it cannot be fetched.
    """
    library = _library()
    patterns = [place.path, f"{place.path}/**"] if place.path else None
    with told(f"the dataset {place.repo!r}", folder):
        found = library.snapshot_download(
            place.repo,
            repo_type="dataset",
            revision=place.revision,
            local_dir=folder,
            allow_patterns=patterns,
            endpoint=_endpoint(),
            etag_timeout=_PATIENCE,
            library_name="asrkd",
        )
    return Path(found)


def upload(repo: str, folder: Path, patterns: Sequence[str], *, private: bool, message: str) -> None:
    """Make a dataset of the hub, if it is not there, and upload files of a folder whose names match.

    Raises:
        AsrkdError: it cannot be made or written to.
    """
    api = client()
    with told(f"the dataset {repo!r}"):
        api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        # The versions before 2 have a method of its own for what is too large for one commit.
        if hasattr(api, "upload_large_folder"):
            api.upload_large_folder(
                repo_id=repo, folder_path=folder, repo_type="dataset", allow_patterns=list(patterns)
            )
        else:
            api.upload_folder(
                repo_id=repo,
                folder_path=folder,
                repo_type="dataset",
                allow_patterns=list(patterns),
                commit_message=message,
            )


def upload_if_new(repo: str, name: str, content: bytes, message: str) -> bool:
    """Upload a file that the dataset does not have yet; whether it did not.

    Raises:
        AsrkdError: it cannot be written.
    """
    api = client()
    with told(f"the dataset {repo!r}"):
        if api.file_exists(repo, name, repo_type="dataset"):
            return False
        api.upload_file(
            path_or_fileobj=content, path_in_repo=name, repo_id=repo, repo_type="dataset", commit_message=message
        )
    return True


def transformers_files(files: Sequence[str]) -> list[str]:
    """Patterns of what a model of transformers needs of the `files` of its repository: not both forms of its weights, and no adapters."""
    weights = [one for one in files if one.endswith((".safetensors", ".bin")) and not one.startswith("adapter.")]
    safe = [file for file in weights if file.endswith(".safetensors")]
    return ["*.json", "*.txt", "*.model", "*.jinja", *(safe or weights)]


def model_folder(what: str, name: str, wanted: Callable[[Sequence[str]], Sequence[str]], kind: str) -> Path:
    """The folder of a model: `name` itself, or the copy that the hub's client keeps, fetched where it is not complete.

    Args:
        what: the model, for an error.
        wanted: of the files that the hub has, patterns of those to fetch.
        kind: what it is to be loaded as, for an error.

    Raises:
        ModelError: it is neither a folder, nor in the cache, nor on a hub that answers.
        DependencyError: huggingface_hub is not installed.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or name.startswith((".", "/", "~", os.sep)) or name.count("/") > 1:
        raise ModelError(
            f"{what}: {name!r} cannot be loaded as {kind}: it is {'a file' if folder.exists() else 'not there'}; give the folder that its tool wrote (for "
            "transformers save_pretrained: config.json, weights, tokenizer and feature extractor), or a name on the hub"
        )
    hub = import_optional("huggingface_hub", f"{what} needs huggingface_hub")
    try:
        # One request that is not repeated, before those that are.
        listed = hub.HfApi().model_info(name, timeout=_MODEL_SECONDS)
    except Exception as unanswered:  # of the network, of the hub, of the name
        try:
            return Path(hub.snapshot_download(name, local_files_only=True))
        except Exception:
            raise ModelError(
                f"{what}: {name!r} cannot be loaded as {kind}: it is not a folder here, not in the hub's cache, and the hub cannot give it "
                f"({one_line(unanswered)[:200]}); correct the name, or give a folder that was downloaded where there is a network"
            ) from None
    patterns = wanted([file.rfilename for file in listed.siblings or []])
    try:
        return Path(hub.snapshot_download(name, allow_patterns=list(patterns), revision=listed.sha))
    except Exception as error:
        raise ModelError(
            f"{what}: {name!r} cannot be downloaded ({one_line(error)[:200]}); run it again, or give a folder that was downloaded elsewhere"
        ) from None


@contextmanager
def told(what: str, folder: Path | None = None) -> Iterator[None]:
    """Say in one line what the client raises, which is of many kinds; `folder` is where it writes."""
    try:
        yield
    except AsrkdError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DISK:
            raise refused(error, folder) from None
        first = " ".join(str(error).strip().partition("\n")[0].split()) or "no reason given"
        name = type(error).__name__
        advice = "check the name, and sign in (hf auth login) if it is private or gated"
        if re.search(r"Connect|Timeout|Offline", name + first):
            advice = f"is there a network to {_endpoint() or 'https://huggingface.co'}? Elsewhere fetch it with hf download, and give the folder"
        raise CorpusError(f"{what} cannot be reached on the hub ({name}: {first}); {advice}") from None


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _library() -> Any:
    huggingface_hub = import_optional("huggingface_hub", "the hub is reached by huggingface_hub")
    import_optional("huggingface_hub.utils")
    if not sys.stderr.isatty():
        huggingface_hub.utils.disable_progress_bars()
    huggingface_hub.utils.logging.set_verbosity_error()  # what it ignores is told by what follows, if it matters
    return huggingface_hub
