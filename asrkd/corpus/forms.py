"""The forms in which a corpus may come: how each is recognised, and who reads it.

`FORMS` is the one table. A path may name its form, `FORM:PATH`, and a form may take options, `FORM:PATH?NAME=VALUE&...`; without a
name the form is what the path shows, and a path that shows two is refused with both names. `hf://datasets/OWNER/NAME[/PATH]` is fetched first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from asrkd.corpus import nemo
from asrkd.corpus.arrow_dataset import arrow_cuts, arrow_files, is_arrow
from asrkd.corpus.audio import Unreadable
from asrkd.corpus.common_voice import common_voice_cuts, is_common_voice
from asrkd.corpus.cut_json import checked
from asrkd.corpus.dataset_columns import NAMES
from asrkd.corpus.folders import audio_files, folder_cuts
from asrkd.corpus.kaldi import is_kaldi, kaldi_cuts
from asrkd.corpus.lhotse_manifest import MANIFESTS, OTHER_MANIFESTS, manifest_cuts
from asrkd.corpus.parquet_dataset import parquet_cuts, parquet_files, split_files
from asrkd.corpus.patterns import expand, is_pattern
from asrkd.corpus.shar import is_shar, shar_cuts
from asrkd.corpus.tables import table_cuts
from asrkd.corpus.webdataset_tars import webdataset_cuts, webdataset_tars
from asrkd.errors import CorpusError
from asrkd.hub import PREFIX, HubPath, fetch

Cuts = Iterable[Any]


@dataclass(frozen=True)
class Corpus:
    """Where a corpus is, and what was said of it.

    Attributes:
        path: as it was given, without form and options.
        channel: the only channel to take where files are opened; None for all.
        options: by name.
    """

    path: Path
    channel: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def files(self) -> list[Path]:
        """The files that the path names by a range or a glob, or the path itself."""
        return expand(self.path)


@dataclass(frozen=True)
class Form:
    """One way to keep a corpus.

    Attributes:
        what: for people.
        shows: whether a path is of this form, by its name, what is in a folder, or the first line of a file.
        cuts: makes what gives its cuts; raises `CorpusError` at once where it cannot be opened.
        options: names that it takes.
    """

    what: str
    shows: Callable[[Path], bool]
    cuts: Callable[[Corpus], Callable[[], Cuts]]
    options: Sequence[str] = ()


def _is_manifest(path: Path) -> bool:
    return path.name.endswith(MANIFESTS) and not nemo.is_nemo(path)


def _is_nemo(path: Path) -> bool:
    if path.is_dir():
        return (path / nemo.TARRED_MANIFEST).is_file()
    return nemo.is_nemo(path)


def _folder(corpus: Corpus) -> Callable[[], Cuts]:
    files = audio_files(corpus.path)
    return lambda: folder_cuts(corpus.path, files, corpus.channel)


def _shar(corpus: Corpus) -> Callable[[], Cuts]:
    what = repr(str(corpus.path))
    return lambda: (cut if isinstance(cut, Unreadable) else checked(cut, what) for cut in shar_cuts(corpus.path))


def _parquet(corpus: Corpus) -> Callable[[], Cuts]:
    files = [file for path in corpus.files() for file in (split_files(path) if path.is_dir() else [path])]
    if not files:
        raise CorpusError(
            f"folder {str(corpus.path)!r} holds no Parquet files (*.parquet, data/*.parquet); correct the path"
        )
    return lambda: parquet_cuts(files, corpus.options)


def _arrow(corpus: Corpus) -> Callable[[], Cuts]:
    files = [file for path in corpus.files() for file in arrow_files(path)]
    return lambda: arrow_cuts(files, corpus.options)


def _is_webdataset(path: Path) -> bool:
    if not path.is_dir():
        return path.suffix == ".tar"
    # The tar files of these two lie next to what names their members.
    return bool(webdataset_tars(path)) and not is_shar(path) and not _is_nemo(path)


def _webdataset(corpus: Corpus) -> Callable[[], Cuts]:
    tars = [tar for path in corpus.files() for tar in (webdataset_tars(path) if path.is_dir() else [path])]
    if not tars:
        raise CorpusError(f"folder {str(corpus.path)!r} holds no tar files (*.tar); correct the path")
    return lambda: webdataset_cuts(tars)


def _nemo(corpus: Corpus) -> Callable[[], Cuts]:
    manifests = [one / nemo.TARRED_MANIFEST if one.is_dir() else one for one in corpus.files()]
    return lambda: nemo.nemo_cuts(manifests, corpus.options)


FORMS: dict[str, Form] = {
    "lhotse": Form(
        "a lhotse manifest of cuts (.jsonl, .jsonl.gz)",
        _is_manifest,
        lambda corpus: lambda: manifest_cuts(corpus.path),
    ),
    "shar": Form(
        "a lhotse Shar folder",
        lambda path: path.is_dir() and is_shar(path),
        _shar,
    ),
    "nemo": Form(
        "a NeMo manifest (.json, .jsonl with audio_filepath), also of tar files",
        _is_nemo,
        _nemo,
        options=("tars",),
    ),
    "kaldi": Form(
        "a Kaldi data folder (wav.scp)",
        lambda path: path.is_dir() and is_kaldi(path),
        lambda corpus: lambda: kaldi_cuts(corpus.path),
    ),
    "parquet": Form(
        "a dataset in Parquet files with a column audio",
        lambda path: path.suffix == ".parquet" or (path.is_dir() and bool(parquet_files(path))),
        _parquet,
        options=tuple(NAMES),
    ),
    "arrow": Form(
        "a dataset by datasets.save_to_disk",
        is_arrow,
        _arrow,
        options=tuple(NAMES),
    ),
    "webdataset": Form(
        "tar files of webdataset (KEY.flac, KEY.txt or KEY.json)",
        _is_webdataset,
        _webdataset,
    ),
    "commonvoice": Form(
        "a .tsv table of Common Voice (path, sentence)",
        is_common_voice,
        lambda corpus: lambda: common_voice_cuts(corpus.path),
    ),
    "table": Form(
        "a .tsv or .csv table with a column audio",
        lambda path: path.suffix in (".tsv", ".csv") and not is_common_voice(path),
        lambda corpus: lambda: table_cuts(corpus.path, corpus.channel),
    ),
}
# What any folder is that is nothing else.
FOLDER = Form("a folder of audio", lambda path: path.is_dir(), _folder)
_NAMES = {**FORMS, "folder": FOLDER}


def parse(spec: str | Path, channel: int | None = None) -> tuple[Form | None, Corpus]:
    """The form that a spec names, if it does, and its corpus.

    Raises:
        CorpusError: it names an option that the form does not have.
    """
    text = str(spec)
    name, colon, rest = text.partition(":")
    if not colon or name not in _NAMES or Path(text).exists():
        return None, Corpus(Path(spec), channel)
    form = _NAMES[name]
    path, question, query = rest.partition("?")
    if question and Path(rest).exists():
        path, query = rest, ""
    options = {}
    for part in query.split("&") if query else ():
        option, equals, value = part.partition("=")
        if option not in form.options or not equals or not value:
            takes = f"it takes {', '.join(f'{one}=...' for one in form.options)}" if form.options else "it takes none"
            raise CorpusError(f"corpus {text!r} has the option {part!r}, which the form {name} does not have; {takes}")
        options[option] = value
    return form, Corpus(Path(path), channel, options)


def names_corpus(spec: str) -> bool:
    """Whether a path is a corpus rather than one audio file."""
    form, corpus = parse(spec)
    path = corpus.path
    return (
        form is not None
        or path.is_dir()
        or "://" in spec
        or is_pattern(path)
        or path.name.endswith((*MANIFESTS, *OTHER_MANIFESTS))
        or any(one.shows(path) for one in FORMS.values())
    )


def reader(spec: str | Path, channel: int | None = None) -> Callable[[], Cuts]:
    """What gives the cuts of a corpus, again at each call: in lhotse's JSON form, and what cannot be opened.

    Raises:
        CorpusError: the path is missing, is of no form or of two, or is not of the form that it names.
    """
    form, corpus = parse(spec, channel)
    place = str(spec) if form is None else str(spec).partition(":")[2].partition("?")[0]
    if place.startswith(PREFIX):
        corpus = replace(corpus, path=_fetched(HubPath.parse(place)))
    elif "://" in place:
        raise CorpusError(
            f"corpus {str(spec)!r} is a URI, but a corpus is read from a disk; mount or download it, or give a manifest whose recordings are "
            "at URIs"
        )
    return (form or _form_of(corpus)).cuts(corpus)


def _fetched(place: HubPath) -> Path:
    """The local path of a dataset of the hub."""
    return fetch(place) / place.path


def _form_of(corpus: Corpus) -> Form:
    first = corpus.files()[0]
    if not first.exists():
        raise CorpusError(f"corpus {str(corpus.path)!r} does not exist; give {_listed()}")
    shown = [name for name, form in FORMS.items() if form.shows(first)]
    if len(shown) > 1:
        raise CorpusError(
            f"corpus {str(corpus.path)!r} may be {' or '.join(FORMS[name].what for name in shown)}; say which: "
            + " or ".join(f"{name}:{corpus.path}" for name in shown)
        )
    if shown:
        return FORMS[shown[0]]
    if first.is_dir():
        return FOLDER
    if first.name.endswith(OTHER_MANIFESTS):
        raise CorpusError(
            f"corpus {str(first)!r} is not JSON Lines, which alone is read cut by cut; convert it: lhotse copy {first.name} "
            f"{first.name.split('.')[0]}.jsonl.gz"
        )
    raise CorpusError(f"corpus {str(first)!r} is of no known form; give {_listed()}")


def _listed() -> str:
    return ", ".join(form.what for form in FORMS.values()) + f", or {FOLDER.what}"
