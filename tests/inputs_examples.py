"""One input of each kind that `docs/inputs.md` has a row for, and what became of it."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from helpers import make_teacher
from lhotse import CutSet, Recording, SupervisionSegment

from asrkd.acoustic import load_model
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.lexicon import Lexicon
from asrkd.corpus.where import parse_where
from asrkd.errors import AsrkdError
from asrkd.evaluation.files import read_hypotheses, write_hypotheses
from asrkd.evaluation.wer import score, total
from asrkd.labeling.array import ArrayBackend
from asrkd.labeling.crew import Crew
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store

EXAMPLES: dict[str, Callable[[Path], str]] = {}
RATE = 16000


def example(what: str) -> Callable[[Callable[[Path], str]], Callable[[Path], str]]:
    """Registers an example of the row whose second cell is `what`."""

    def register(function: Callable[[Path], str]) -> Callable[[Path], str]:
        EXAMPLES[what] = function
        return function

    return register


def noise(seconds: float = 0.5, seed: int = 0) -> np.ndarray:
    """White noise of -20 dB full scale."""
    return (0.1 * np.random.default_rng(seed).normal(size=int(seconds * RATE))).astype(np.float32)


def wav(path: Path, samples: np.ndarray | None = None, **options: Any) -> Path:
    """An audio file, half a second of noise by default."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise() if samples is None else samples, RATE, **options)
    return path


def label(corpus: Path, folder: Path, *, odd: str, teacher: str | None = None) -> tuple[str, list[dict[str, Any]]]:
    """Plan and label a corpus; what became of the cut `odd` of it, and the stored rows. The other cuts must be stored."""
    store = str(folder / "store")
    try:
        plan(str(corpus), store, embed="audio", teacher=teacher)
    except AsrkdError as error:
        assert "\n" not in str(error) and not (folder / "store/manifest.json").exists()
        return "refused", []
    run(Local(Store.open(store), Crew(readers=0)), max_quarantined=1)
    rows = list(Store.open(store).rows()) if list((folder / "store/shards").glob("*.parquet")) else []
    reasons = dict(Store.open(store).quarantine.of([0]))
    assert len(rows) + len(reasons) == Store.open(store).plan["num_cuts"]
    assert not set(reasons) - {odd}, reasons
    return ("quarantined" if odd in reasons else "accepted"), rows


def table(
    folder: Path, text: str | bytes, name: str = "corpus.tsv", *, odd: str = "odd"
) -> tuple[str, list[dict[str, Any]]]:
    """Label a table that names a.wav and b.wav."""
    for file in "ab":
        wav(folder / f"{file}.wav")
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return label(folder / name, folder, odd=odd)


def texts(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Transcripts by id."""
    return {row["id"]: row["text"] for row in rows}


def refusals(work: Callable[..., object], *inputs: Any) -> str:
    """What `work` does with each of the inputs: `refused` if it raises an error of asrkd of one line, else `accepted`."""
    outcomes = set()
    for one in inputs:
        try:
            work(one)
        except AsrkdError as error:
            assert "\n" not in str(error)
            outcomes.add("refused")
        else:
            outcomes.add("accepted")
    assert len(outcomes) == 1, (outcomes, inputs)
    return outcomes.pop()


# Tables


@example("a byte order mark, `\\r\\n`, a blank line")
def _(folder: Path) -> str:
    outcome, rows = table(folder, "\ufeffaudio\tid\ttext\r\na.wav\ta\tone\r\n\r\nb.wav\todd\ttwo\r\n")
    assert texts(rows) == {"a": "one", "odd": "two"}
    return "normalised" if outcome == "accepted" else outcome


@example("quotation marks in a `.tsv`")
def _(folder: Path) -> str:
    outcome, rows = table(folder, 'audio\tid\ttext\na.wav\ta\t"he said\nb.wav\todd\ttwo"\n')
    assert texts(rows) == {"a": '"he said', "odd": 'two"'}
    return outcome


@example("a quoted field of a `.csv`, with a comma or a line break in it")
def _(folder: Path) -> str:
    outcome, rows = table(folder, 'audio,id,text\na.wav,a,"one, two"\nb.wav,odd,"three\nfour"\n', "corpus.csv")
    assert texts(rows) == {"a": "one, two", "odd": "three\nfour"}
    return outcome


@example("a quotation mark of a `.csv` that is never closed")
def _(folder: Path) -> str:
    return table(folder, 'audio,id,text\na.wav,a,"one\nb.wav,odd,two\n', "corpus.csv")[0]


@example("a field of any length")
def _(folder: Path) -> str:
    outcome, rows = table(folder, f"audio,id,text\na.wav,a,one\nb.wav,odd,{'x' * 200_000}\n", "corpus.csv")
    assert len(texts(rows)["odd"]) == 200_000
    return outcome


@example("more fields than columns")
def _(folder: Path) -> str:
    return table(folder, "audio\tid\ttext\na.wav\ta\tone\nb.wav\todd\ttwo\tthree\n")[0]


@example("a column that asrkd does not know, or one twice")
def _(folder: Path) -> str:
    assert table(folder, "audio\tid\tsentence\na.wav\ta\tone\n")[0] == "refused"
    return table(folder, "audio\tid\ttext\ttext\na.wav\ta\tone\ttwo\n")[0]


@example("bytes that are not UTF-8")
def _(folder: Path) -> str:
    return table(folder, b"audio\tid\ttext\na.wav\ta\tcaf\xe9\n")[0]


@example("U+2028, U+2029, U+0085 or a form feed in a text")
def _(folder: Path) -> str:
    outcome, rows = table(folder, "audio\tid\ttext\na.wav\ta\tx\u2028y\u2029z\nb.wav\todd\tx\x85y\x0cz\n")
    assert texts(rows) == {"a": "x\u2028y\u2029z", "odd": "x\x85y\x0cz"}
    return outcome


@example("the same id twice")
def _(folder: Path) -> str:
    return table(folder, "audio\tid\na.wav\tsame\nb.wav\tsame\n")[0]


@example("a start or duration that is negative, NaN, infinite, or beyond the audio")
def _(folder: Path) -> str:
    outcomes = set()
    for number, times in enumerate(("-0.1\t0.2", "nan\t0.2", "0\tinf", "0\tnan", "0\t-1", "0\t0", "0.4\t0.2", "9\t1")):
        inner = folder / str(number)
        inner.mkdir()
        outcome, rows = table(inner, f"audio\tid\tstart\tduration\na.wav\ta\t\t\nb.wav\todd\t{times}\n")
        outcomes.add(outcome)
        assert outcome == "refused" or [row["id"] for row in rows] == ["a"], times
    assert len(outcomes) == 1, outcomes
    return outcomes.pop()


# Folders


@example("upper-case suffixes, links to folders and files")
def _(folder: Path) -> str:
    wav(folder / "elsewhere/b.wav")
    wav(folder / "corpus/A.WAV")
    (folder / "corpus/linked").symlink_to(folder / "elsewhere")
    (folder / "corpus/c.wav").symlink_to(folder / "elsewhere/b.wav")
    (folder / "corpus/linked/loop").symlink_to(folder / "corpus")
    outcome, rows = label(folder / "corpus", folder, odd="c")
    assert sorted(row["id"] for row in rows) == ["A", "c", "linked/b"]
    return outcome


@example("hidden files, `._x.wav`, `__MACOSX`, files that are not audio")
def _(folder: Path) -> str:
    wav(folder / "corpus/a.wav")
    for name in (".git/b.wav", "._a.wav", ".c.wav", "__MACOSX/d.wav"):
        wav(folder / "corpus" / name)
    (folder / "corpus/notes.txt").write_text("x")
    outcome, rows = label(folder / "corpus", folder, odd="a")
    assert [row["id"] for row in rows] == ["a"]
    return "normalised" if outcome == "accepted" else outcome


@example("a link that leads nowhere, an empty file, a file that is not what its suffix says")
def _(folder: Path) -> str:
    outcomes = set()
    contents = {"link.wav": None, "empty.wav": b"", "text.wav": b"no audio", "noise.au": noise().tobytes()}
    for name, content in contents.items():
        inner = folder / name
        wav(inner / "corpus/a.wav")
        odd = inner / f"corpus/odd{inner.suffix}"
        if content is None:
            odd.symlink_to("nothing")
        else:
            odd.write_bytes(content)
        outcomes.add(label(inner / "corpus", inner, odd="odd")[0])
    assert len(outcomes) == 1, outcomes
    return outcomes.pop()


@example("two files of one name with different suffixes")
def _(folder: Path) -> str:
    wav(folder / "corpus/a.wav")
    wav(folder / "corpus/a.flac")
    return label(folder / "corpus", folder, odd="a")[0]


# Audio


@example("more than one channel")
def _(folder: Path) -> str:
    stereo = np.stack([noise(seed=1), 0 * noise()], axis=1)
    wav(folder / "corpus/odd.wav", stereo)
    outcome, rows = label(folder / "corpus", folder, odd="odd")
    samples, _ = soundfile.read(io.BytesIO(rows[0]["audio"]["bytes"]))
    np.testing.assert_allclose(samples, stereo.mean(axis=1), atol=1e-4)
    return "normalised" if outcome == "accepted" else outcome


@example("channels that cancel each other")
def _(folder: Path) -> str:
    wav(folder / "corpus/odd.wav", np.stack([noise(), -noise()], axis=1))
    return label(folder / "corpus", folder, odd="odd")[0]


@example("samples far outside -1..1")
def _(folder: Path) -> str:
    wav(folder / "corpus/odd.wav", 30_000 * noise(), subtype="FLOAT")
    return label(folder / "corpus", folder, odd="odd")[0]


@example("digital silence")
def _(folder: Path) -> str:
    wav(folder / "corpus/odd.wav", 0 * noise())
    return label(folder / "corpus", folder, odd="odd")[0]


@example("NaN or infinite samples")
def _(folder: Path) -> str:
    samples = noise()
    samples[100] = np.nan
    wav(folder / "corpus/odd.wav", samples, subtype="FLOAT")
    return label(folder / "corpus", folder, odd="odd")[0]


@example("a file that is cut off")
def _(folder: Path) -> str:
    file = wav(folder / "corpus/odd.flac", noise(3))
    file.write_bytes(file.read_bytes()[:20_000])
    return label(folder / "corpus", folder, odd="odd")[0]


# Scores


def scores(folder: Path, reference: str, hypothesis: str) -> float:
    (folder / "ref").write_text(reference, encoding="utf-8", newline="")
    (folder / "hyp").write_text(hypothesis, encoding="utf-8", newline="")
    return total(score(read_hypotheses(folder / "ref"), read_hypotheses(folder / "hyp"), {})).rate


@example("any word, `*` among them")
def _(folder: Path) -> str:
    assert scores(folder, "u a * b\n", "u a b\n") == 1 / 3
    return "accepted"


@example("composed and decomposed letters (NFC, NFD)")
def _(folder: Path) -> str:
    assert scores(folder, "u caf\u00e9\n", "u cafe\u0301\n") == 0
    return "normalised"


@example("an id that occurs twice, or on one side alone")
def _(folder: Path) -> str:
    def work(texts: tuple[str, str]) -> float:
        return scores(folder, *texts)

    return refusals(work, ("u a\nu b\n", "u a\n"), ("u a\n", "u a\nv b\n"), ("u a\nv b\n", "u a\n"))


# More of tables, manifests and lists


@example("a column separated otherwise (semicolons in a `.csv`)")
def _(folder: Path) -> str:
    return table(folder, "audio;id;text\na.wav;a;one\n", "corpus.csv")[0]


@example("a start, duration or channel that is not a number")
def _(folder: Path) -> str:
    return table(folder, "audio\tid\tstart\na.wav\ta\t\nb.wav\todd\t0,5\n")[0]


@example("a row without audio, or with a file that is not there")
def _(folder: Path) -> str:
    outcomes = set()
    for number, name in enumerate(("", "none.wav")):
        inner = folder / str(number)
        inner.mkdir()
        outcomes.add(table(inner, f"audio\tid\na.wav\ta\n{name}\todd\n")[0])
    assert len(outcomes) == 1, outcomes
    return outcomes.pop()


def manifest(folder: Path, *cuts: Any, odd: str = "odd", **options: Any) -> tuple[str, list[dict[str, Any]]]:
    """Label a manifest of cuts, as lhotse has them or as their JSON."""
    lines = (
        one if isinstance(one, str) else json.dumps(one if isinstance(one, dict) else one.to_dict()) for one in cuts
    )
    (folder / "cuts.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return label(folder / "cuts.jsonl", folder, odd=odd, **options)


def cut_of(folder: Path, name: str, samples: np.ndarray | None = None, words: str | None = None) -> Any:
    """A cut of its own file, named by it."""
    recording = Recording.from_file(wav(folder / f"{name}.wav", samples), recording_id=name)
    cut = recording.to_cut().with_id(name)
    if words is not None:
        cut.supervisions = [
            SupervisionSegment(
                id=name, recording_id=name, start=0, duration=recording.duration, text=words, speaker="s"
            )
        ]
    return cut


@example("a line that is not JSON, or not a cut (a RecordingSet, a cut without an id)")
def _(folder: Path) -> str:
    good = cut_of(folder, "a")
    outcomes = {
        manifest(folder, good, "{")[0],
        manifest(folder, good, good.recording.to_dict())[0],
        manifest(folder, good, good.to_dict() | {"id": None})[0],
    }
    assert len(outcomes) == 1, outcomes
    return outcomes.pop()


@example("a cut whose start or duration is not a time, or whose type lhotse does not have")
def _(folder: Path) -> str:
    good, outcomes = cut_of(folder, "a"), set()
    for number, changes in enumerate(
        ({"duration": float("nan")}, {"start": -1.0}, {"duration": "1"}, {"type": "Cut3D"})
    ):
        inner = folder / str(number)
        inner.mkdir()
        outcomes.add(manifest(inner, good, good.to_dict() | {"id": "odd"} | changes)[0])
    assert len(outcomes) == 1, outcomes
    return outcomes.pop()


@example("NaN or an infinity in a custom field")
def _(folder: Path) -> str:
    outcome, rows = manifest(folder, cut_of(folder, "odd").to_dict() | {"custom": {"snr": float("nan")}})
    assert json.loads(rows[0]["custom"]) == {"snr": None}
    return "normalised" if outcome == "accepted" else outcome


@example("a relative path, in a manifest that is labeled from another folder")
def _(folder: Path) -> str:
    wav(folder / "data/odd.wav")
    cut = Recording.from_file("data/odd.wav", recording_id="odd").to_cut().with_id("odd")
    (folder / "cuts.jsonl").write_text(json.dumps(cut.to_dict()) + "\n")
    plan("cuts.jsonl", str(folder / "store"), embed="audio")
    (folder / "elsewhere").mkdir()
    os.chdir(folder / "elsewhere")
    run(Local(Store.open(str(folder / "store")), Crew(readers=0)))
    return "normalised" if len(list(Store.open(str(folder / "store")).rows())) == 1 else "quarantined"


# Kinds of cuts


@example("padded, appended and mixed cuts, cuts of several channels")
def _(folder: Path) -> str:
    a, b = cut_of(folder, "a"), cut_of(folder, "b", noise(seed=1))
    stereo = cut_of(folder, "multi", np.stack([noise(seed=2), noise(seed=3)], axis=1))
    made = [
        a.pad(duration=0.8).with_id("padded"),
        a.append(b).with_id("appended"),
        a.mix(b, snr=10).with_id("odd"),
        stereo,
    ]
    outcome, rows = manifest(folder, *made)
    assert [row["num_samples"] for row in rows] == [12_800, 16_000, 8_000, 8_000]
    return outcome


@example("a Shar folder")
def _(folder: Path) -> str:
    (folder / "shar").mkdir()
    CutSet.from_cuts([cut_of(folder, "a", words="x"), cut_of(folder, "odd", words="y")]).to_shar(
        folder / "shar", fields={"recording": "flac"}, shard_size=1
    )
    outcome, rows = label(folder / "shar", folder, odd="odd")
    assert texts(rows) == {"a": "x", "odd": "y"}
    return outcome


@example("arrays, recordings and nested values in custom fields")
def _(folder: Path) -> str:
    cut = cut_of(folder, "odd")
    cut.target = Recording.from_file(wav(folder / "target.wav"))
    cut.more = {"a": [1, {"b": 2}]}
    outcome, rows = manifest(folder, cut)
    assert json.loads(rows[0]["custom"]).keys() == {"target", "more"}
    return outcome


@example("padding alone, or a cut without a recording")
def _(folder: Path) -> str:
    good = cut_of(folder, "a")
    bare = {key: value for key, value in good.to_dict().items() if key != "recording"} | {"id": "odd"}
    outcome, _ = manifest(folder, good, bare)
    (folder / "second").mkdir()
    padding = {
        "type": "PaddingCut",
        "id": "odd",
        "duration": 0.5,
        "sampling_rate": RATE,
        "feat_value": 0,
        "num_samples": 8000,
    }
    assert manifest(folder / "second", good, padding)[0] == outcome
    return outcome


@example("audio that is the output of a command, or a `pipe:`")
def _(folder: Path) -> str:
    good = cut_of(folder, "a")
    outcomes = set()
    for number, kind in enumerate(("command", "url")):
        (folder / str(number)).mkdir()
        bad = good.with_id("odd").to_dict()
        marker = folder / "was-run"
        bad["recording"]["sources"][0] |= {"type": kind, "source": f"{'pipe:' if kind == 'url' else ''}touch {marker}"}
        outcomes.add(manifest(folder / str(number), good, bad)[0])
        assert not marker.exists()
    assert len(outcomes) == 1, outcomes
    return outcomes.pop()


@example("a window of a transcript, without word times, in a store of transcripts")
def _(folder: Path) -> str:
    window = cut_of(folder, "b", words="one two three").truncate(duration=0.2).with_id("odd")
    return manifest(folder, cut_of(folder, "a", words="x"), window)[0]


@example("a window of a transcript, for a teacher")
def _(folder: Path) -> str:
    window = cut_of(folder, "b", words="one two three").truncate(duration=0.2).with_id("odd")
    outcome, rows = manifest(folder, window, teacher=make_teacher(folder / "final.pt"))
    assert texts(rows) == {"odd": None}
    return "normalised" if outcome == "accepted" else outcome


@example("two speakers at a time, in a store of transcripts")
def _(folder: Path) -> str:
    cut = cut_of(folder, "odd", words="one")
    other = SupervisionSegment(id="o", recording_id="odd", start=0.1, duration=0.3, text="two", speaker="t")
    cut.supervisions = [*cut.supervisions, other]
    return manifest(folder, cut_of(folder, "a", words="x"), cut)[0]


# Lexicons


def lexicon(folder: Path, content: str) -> dict[str, Any]:
    (folder / "lexicon.txt").write_text(content, encoding="utf-8", newline="")
    return dict(Lexicon.read(folder / "lexicon.txt").pronunciations)


@example("Kaldi's `lexiconp.txt`, disambiguation symbols, CMUdict's comments and `WORD(2)`")
def _(folder: Path) -> str:
    assert lexicon(folder, "a 1.0 x y\na 0.5 z\n") == {"a": (("x", "y"), ("z",))}
    assert lexicon(folder, "a x y #1\nb x y #2\n") == {"a": (("x", "y"),), "b": (("x", "y"),)}
    assert lexicon(folder, ";;; c\nA x\nA(2) y # z\n") == {"A": (("x",), ("y",))}
    return "normalised"


@example("a second column that may be probabilities or phones")
def _(folder: Path) -> str:
    return refusals(lambda content: lexicon(folder, content), "a 1 x\nb 1 y\n")


@example("`<eps>`, `<s>`, `</s>` or `#0` as a word, `<blk>` or `<eps>` as a phone")
def _(folder: Path) -> str:
    return refusals(lambda line: lexicon(folder, line), "<eps> x\n", "<s> x\n", "a <blk> x\n", "a <eps>\n")


# Scores and conditions


@example("references without a word")
def _(folder: Path) -> str:
    assert not score({"u": ""}, {"u": "a"}, {})[0].errors.reference
    return "accepted"


@example("an id with white space, when written")
def _(folder: Path) -> str:
    return refusals(lambda key: write_hypotheses(folder / "hyp", {key: "a"}), "my utt", "my\tutt", "")


@example("`*.trn`, `recogs-*` or `errs-*` in place of hypotheses")
def _(folder: Path) -> str:
    return refusals(lambda content: scores(folder, "u a\n", content), "a b (u1)\n", "u:\tref=a\nu:\thyp=a\n")


@example("`--where` with text that looks like a number")
def _(folder: Path) -> str:
    cut = {"id": "a", "duration": 1.0, "custom": {"language": "nan", "code": "007"}}
    assert parse_where("custom.language=nan")(cut) and not parse_where("custom.code=7")(cut)
    return "accepted"


# Teachers


def graph(folder: Path, units: tuple[str, ...] = ("<blk>", "a", "b"), **shape: Any) -> str:
    """An ONNX graph of one matrix product, and its description."""
    batch, frames, size = shape.get("batch", "N"), shape.get("frames", "T"), shape.get("size", 192)
    make, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto
    weights = (0.1 * np.random.default_rng(0).normal(size=(size, len(units)))).astype(np.float32)
    product = "product" if shape.get("softmax") else "logits"
    nodes = [onnx.helper.make_node("MatMul", ["features", "weights"], [product])]
    if shape.get("softmax"):
        nodes.append(onnx.helper.make_node("Softmax", [product], ["logits"], axis=-1))
    nodes.append(onnx.helper.make_node("Cast", ["feature_lengths"], ["logit_lengths"], to=kind.INT64))
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            nodes,
            "graph",
            [
                make("features", kind.FLOAT, [batch, frames, size]),
                make("feature_lengths", shape.get("lengths", kind.INT64), [batch]),
            ],
            [make("logits", kind.FLOAT, [batch, frames, len(units)]), make("logit_lengths", kind.INT64, [batch])],
            [onnx.numpy_helper.from_array(weights, "weights")],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, folder / "teacher.onnx")
    described = {"front_end": FrontEnd().to_dict(), "inventory": {"units": units, "topology": "ctc"}}
    (folder / "teacher.onnx.json").write_text(json.dumps(described))
    return f"onnx:{folder / 'teacher.onnx'}"


@example("a graph for one utterance at a time, or with int32 lengths")
def _(folder: Path) -> str:
    assert load_model(graph(folder, batch=1)).one_by_one
    assert not load_model(graph(folder, lengths=onnx.TensorProto.INT32)).one_by_one
    return "normalised"


@example("a graph for another batch, number of frames, feature size or number of classes")
def _(folder: Path) -> str:
    return refusals(lambda name: load_model(graph(folder, **{name: 50})), "batch", "frames", "size")


@example("a softmax in the graph")
def _(folder: Path) -> str:
    return refusals(lambda softmax: load_model(graph(folder, softmax=softmax)), True)


@example("units without the blank, or with the blank elsewhere than first")
def _(folder: Path) -> str:
    return refusals(lambda units: load_model(graph(folder, units)), ("a", "b", "c"), ("a", "b", "<blk>"))


# Outputs and schedulers


@example("a store in a file, below a file, or where nothing may be written")
def _(folder: Path) -> str:
    wav(folder / "corpus/a.wav")
    (folder / "file").write_text("x")
    places = (folder / "file", folder / "file/below", "/proc/store")
    return refusals(lambda place: plan(str(folder / "corpus"), str(place), embed="audio"), *places)


@example("a corpus at a URI (`s3://`)")
def _(folder: Path) -> str:
    return refusals(lambda uri: plan(uri, str(folder / "store"), embed="audio"), "s3://b/c.jsonl", "shar:gs://b/c")


@example("`hf://` of another form, or that cannot be fetched")
def _(folder: Path) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        places = (
            "hf://datasets/a",
            "hf://a/b",
            f"hf://datasets/asrkd-{folder.name}/b",
            "nemo:hf://datasets/a-/b/m.json",
        )
        return refusals(lambda uri: plan(uri, str(folder / "store"), embed="audio"), *places)


@example("a path that shows two forms")
def _(folder: Path) -> str:
    wav(folder / "corpus/a.wav")
    (folder / "corpus/wav.scp").write_text("a a.wav\n")
    (folder / "corpus/tarred_audio_manifest.json").write_text('{"audio_filepath": "a.wav"}\n')
    return refusals(lambda path: plan(path, str(folder / "store"), embed="audio"), str(folder / "corpus"))


@example("a Kaldi `wav.scp` with a command (a pipe)")
def _(folder: Path) -> str:
    wav(folder / "corpus/a.wav")
    (folder / "corpus/wav.scp").write_text("a corpus/a.wav\nb touch ran; cat corpus/a.wav |\n")
    found = refusals(lambda path: plan(path, str(folder / "store"), embed="audio"), str(folder / "corpus"))
    assert not Path("ran").exists()
    return found


@example("a segment of length 0, beyond its recording, or of one that `wav.scp` lacks")
def _(folder: Path) -> str:
    wav(folder / "corpus/a.wav")
    (folder / "corpus/wav.scp").write_text("a a.wav\n")
    for segment in ("a 0.1 0.1", "a 0.3 0.9", "b 0 0.1"):
        (folder / "corpus/segments").write_text(f"good a 0 0.2\nodd {segment}\n")
        outcome, _ = label(str(folder / "corpus"), folder / segment.replace(" ", ""), odd="odd")
        assert outcome == "quarantined"
    return outcome


@example("a NeMo line whose offset lies beyond its file, or whose tar lacks its member")
def _(folder: Path) -> str:
    wav(folder / "a.wav")
    with tarfile.open(folder / "audio_0.tar", "w") as tar:
        tar.add(folder / "a.wav", "a.wav")
    for name, odd in (
        ("m", {"audio_filepath": "a.wav", "offset": 3, "duration": 1}),
        ("manifest_0", {"audio_filepath": "b.wav"}),
    ):
        lines = [{"audio_filepath": "a.wav", "id": "good"}, odd | {"id": "odd"}]
        (folder / f"{name}.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
        outcome, _ = label(str(folder / f"{name}.json"), folder / name, odd="odd")
        assert outcome == "quarantined"
    return outcome


@example("a NeMo shard without its tar file")
def _(folder: Path) -> str:
    (folder / "m.json").write_text('{"audio_filepath": "a.wav", "shard_id": 0}\n')
    return refusals(lambda path: plan(path, str(folder / "store"), embed="audio"), str(folder / "m.json"))


@example("a sample of a tar file without its audio, or a tar file that ends early")
def _(folder: Path) -> str:
    wav(folder / "good.wav")
    (folder / "odd.txt").write_text("no audio")
    with tarfile.open(folder / "s.tar", "w") as tar:
        tar.add(folder / "good.wav", "good.wav")
        tar.add(folder / "odd.txt", "odd.txt")
    (folder / "t.tar").write_bytes((folder / "s.tar").read_bytes()[:18200])
    assert label(str(folder / "t.tar"), folder / "t", odd="t.tar")[0] == "quarantined"
    return label(str(folder / "s.tar"), folder / "s", odd="odd")[0]


@example("a dataset without a column `audio`")
def _(folder: Path) -> str:
    pq.write_table(pa.table({"speech": ["a.wav"], "text": ["a"]}), folder / "d.parquet")
    return refusals(lambda path: plan(path, str(folder / "store"), embed="audio"), str(folder / "d.parquet"))


@example("a dataset's folder with several splits, or without a file of one")
def _(folder: Path) -> str:
    for names in (("train-00000-of-00001", "test-00000-of-00001"), ("train-00001-of-00002",)):
        (folder / names[0]).mkdir()
        for name in names:
            pq.write_table(pa.table({"audio": ["a.wav"]}), folder / names[0] / f"{name}.parquet")
    return refusals(
        lambda path: plan(str(path), str(folder / "store"), embed="audio"),
        folder / "train-00000-of-00001",
        folder / "train-00001-of-00002",
    )


@example("an index of an array beyond its count (lists, steps, tasks submitted again)")
def _(folder: Path) -> str:
    wav(folder / "corpus/a.wav")
    plan(str(folder / "corpus"), str(folder / "store"), embed="audio")
    return (
        "accepted" if run(ArrayBackend(Store.open(str(folder / "store")), index=7, count=3)).labeled == 1 else "refused"
    )


# Headers


@example("an MP3 without its Xing frame, MP3 or Ogg files joined")
def _(folder: Path) -> str:
    soundfile.write(folder / "v.mp3", noise(3), 44_100, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5)
    soundfile.write(folder / "v.ogg", noise(3), RATE, format="OGG", subtype="VORBIS")
    (folder / "corpus").mkdir()
    mp3, ogg = (folder / "v.mp3").read_bytes(), (folder / "v.ogg").read_bytes()
    (folder / "corpus/cut.mp3").write_bytes(mp3[mp3.find(b"\xff\xfb", 4) :])
    (folder / "corpus/joined.mp3").write_bytes(mp3 + mp3)
    (folder / "corpus/odd.ogg").write_bytes(ogg + ogg)
    outcome, rows = label(folder / "corpus", folder, odd="odd")
    seconds = {row["id"]: row["duration"] for row in rows}
    assert seconds["odd"] == 6 and seconds["cut"] > 1.05 and seconds["joined"] > 2.1
    return outcome


@example("a header that declares more or fewer samples than the file holds")
def _(folder: Path) -> str:
    outcomes = set()
    for number, declared in enumerate((4_000, 40_000)):
        file = wav(folder / f"{number}/corpus/odd.wav")
        content = file.read_bytes()
        at = content.index(b"data") + 4
        file.write_bytes(content[:at] + declared.to_bytes(4, "little") + content[at + 4 :])
        outcomes.add(label(folder / f"{number}/corpus", folder / str(number), odd="odd")[0])
    assert len(outcomes) == 1, outcomes
    return outcomes.pop()


@example("a WAV that was written to a pipe (of size 0, or the largest)")
def _(folder: Path) -> str:
    file = wav(folder / "corpus/odd.wav")
    content = file.read_bytes()
    at = content.index(b"data") + 4
    file.write_bytes(content[:at] + b"\xff\xff\xff\xff" + content[at + 4 :])
    outcome, rows = label(folder / "corpus", folder, odd="odd")
    assert [row["num_samples"] for row in rows] == [RATE // 2]
    return outcome
