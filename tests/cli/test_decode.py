"""`asrkd decode` and `asrkd score` agree, and what cannot be scored is said before the model runs."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from click.testing import CliRunner
from lhotse import CutSet
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor
from training_helpers import settings

from asrkd.acoustic import TrainedModel
from asrkd.cli import cli
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.decoding.decode import graph_decode
from asrkd.errors import AsrkdError, ConfigError, CorpusError, ModelError
from asrkd.evaluation.files import read_hypotheses
from asrkd.graphs import word_loop_graph
from asrkd.models import BLSTMTeacher, to_int8
from asrkd.training.trainer import Trainer


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decode") / "run"
    Trainer(settings(corpus, folder, schedule=[{"steps": 2, "mixture": {"labeled": 1}}])).train()
    return folder


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if isinstance(result.exception, AsrkdError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def manifest(corpus: Path, path: Path, change: Callable[[int, dict[str, Any]], None], count: int = 4) -> Path:
    cuts = [cut.to_dict() for cut in CutSet.from_file(corpus / "labeled.jsonl.gz")][:count]
    for number, cut in enumerate(cuts):
        change(number, cut)
    path.write_text("".join(json.dumps(cut) + "\n" for cut in cuts), encoding="utf-8")
    return path


def test_score_of_the_files_that_decode_wrote_is_what_decode_said(corpus: Path, run: Path, tmp_path: Path) -> None:
    def odd(number: int, cut: dict[str, Any]) -> None:
        cut["id"] = f"u\u2028*:é{number}"
        cut["supervisions"][0] |= {
            "speaker": "an  na\n" if number % 2 else None,
            "text": ["lo\u0301w *", "low\thigh\n", "(up)", ""][number],
        }

    cuts = manifest(corpus, tmp_path / "odd.jsonl", odd)
    said = invoke("decode", run, cuts, tmp_path / "out", "--lexicon", corpus / "lexicon.txt")
    summary = said[: said.index("RTFx")]
    files = [tmp_path / "out/hyp-test.txt", tmp_path / "out/ref-test.txt"]
    assert " 5 words, 4 utterances\n" in summary and "\n  an na\t" in summary and "over 3 speakers" in summary
    assert invoke("score", *files) == summary == invoke("score", *files, "--cuts", cuts)
    assert (tmp_path / "out/wer-summary-test.txt").read_text(encoding="utf-8") == summary
    fewer = manifest(corpus, tmp_path / "fewer.jsonl", odd, count=3)
    with pytest.raises(CorpusError, match="names no speaker for 1 of 4 utterances"):
        invoke("score", *files, "--cuts", fewer)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda number, cut: cut.update(id="same" if number != 2 else "other"), "'same' is in .* more than once"),
        (lambda number, cut: cut.update(id=f"my utt {number}"), "'my utt 0' .* has white space in it"),
        (lambda number, cut: cut.update(id=f"u\t{number}"), r"'u\\t0' .* has white space in it"),
        (lambda number, cut: cut["supervisions"][0].update(text=" \t"), "hold no words"),
        (lambda number, cut: cut["supervisions"].clear(), "has no transcript"),
    ],
)
def test_what_cannot_be_scored_is_said_before_audio_is_read(
    corpus: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[..., None], message: str
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("audio was read")

    monkeypatch.setattr("asrkd.decoding.evaluation_set.read_audio", read)
    cuts = manifest(corpus, tmp_path / "cuts.jsonl", change)
    with pytest.raises(CorpusError, match=message):
        invoke("decode", run, cuts, tmp_path / "out", "--lexicon", corpus / "lexicon.txt")
    assert not (tmp_path / "out").exists()


ARPA = (
    "\\data\\\nngram 1=4\nngram 2=1\n\n\\1-grams:\n-1\t<s>\t-0.1\n-1\t</s>\n-1\t{0}\t-0.1\n-1\t{1}\t-0.1\n\n"
    "\\2-grams:\n-0.5\t<s> {0}\n\n\\end\\\n"
)
# A byte order mark and line ends of Windows are left out.
TABLE = "\ufeff<blk> 0\r\nl 1\r\nh 2\r\n"


@pytest.mark.parametrize(
    ("option", "name", "content", "message"),
    [
        (
            "--lexicon",
            "tokens.txt",
            TABLE.replace("h 2", "p 2"),
            r"spells with 1 tokens that are not among the 3 units \('p'\)",
        ),
        ("--lexicon", "tokens.txt", TABLE.replace("h 2\r\n", ""), r"has no token for 1 of the 3 units \('h'\)"),
        ("--lexicon", "tokens.txt", "", "has no tokens"),
        ("--lexicon", "tokens.txt", TABLE + "l 3\n", "token 'l' has the ids 1 and 3"),
        ("--lexicon", "tokens.txt", TABLE + "p 2\n", "id 2 is that of 'h' and of 'p'"),
        ("--lexicon", "tokens.txt", TABLE + "p 4\n", "ids up to 4, but none for 3"),
        ("--lexicon", "tokens.txt", TABLE.replace("<blk>", "p"), "has no token for|spells with 1 tokens"),
        ("--lexicon", "tokens.txt", TABLE.encode("utf-16"), "is not UTF-8"),
        ("--lexicon", "bpe.model", "version https://git-lfs.github.com/spec/v1\n", "is not a SentencePiece model"),
        (
            "--lexicon",
            "tokenizer.json",
            "version https://git-lfs.github.com/spec/v1\n",
            "is not a tokenizer of the package",
        ),
        (
            "--lexicon",
            "lexicon.txt",
            "low l ow\nhigh h\n",
            r"spells with 1 tokens that are not among the 3 units \('ow'\)",
        ),
        ("--grammar", "lm.arpa", ARPA.format("LOW", "HIGH"), "has none of the lexicon's 3 words, but 'HIGH', 'LOW'"),
        ("--grammar", "lm.arpa", "", "is not an ARPA file"),
        (
            "--grammar",
            "lm.arpa.gz",
            gzip.compress(ARPA.format("low", "up").encode(), mtime=0)[:-9],
            "is cut short or damaged",
        ),
        ("--grammar", "lm.arpa.gz", ARPA.format("low", "up"), "cannot be unpacked"),
        ("--grammar", "lm.arpa", gzip.compress(ARPA.format("low", "up").encode(), mtime=0), "is not UTF-8"),
    ],
)
@pytest.mark.parametrize("decoder", ["beam", "graph"])
def test_words_of_another_model_or_files_that_are_not_words(
    run: Path, tmp_path: Path, decoder: str, option: str, name: str, content: str | bytes, message: str
) -> None:
    pytest.importorskip("flashlight" if decoder == "beam" else "kaldilm")
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    spec = f"characters:{tmp_path / name}" if name == "tokens.txt" else tmp_path / name
    result = CliRunner().invoke(
        cli, ["decode", str(run), "none.jsonl", str(tmp_path / "out"), "--decoder", decoder, option, str(spec)]
    )
    assert isinstance(result.exception, AsrkdError), result.output
    assert re.search(message, str(result.exception)) and "\n" not in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_grammar_with_more_words_than_the_lexicon_is_searched_without_them(
    corpus: Path, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "lm.arpa").write_text(ARPA.format("low", "LOW"))
    for decoder in ("beam", "graph"):
        caplog.clear()
        invoke(
            "decode",
            run,
            corpus / "labeled.jsonl.gz",
            tmp_path / decoder,
            "--grammar",
            tmp_path / "lm.arpa",
            "--decoder",
            decoder,
        )
        assert "1 of its 2 words are not in the lexicon and are never found: 'LOW'" in caplog.text
        assert set(" ".join(read_hypotheses(tmp_path / decoder / "hyp-test.txt").values()).split()) <= {"low"}


def test_a_table_with_line_ends_of_windows_is_read(corpus: Path, run: Path, tmp_path: Path) -> None:
    (tmp_path / "tokens.txt").write_bytes(TABLE.encode())
    invoke(
        "decode",
        run,
        corpus / "labeled.jsonl.gz",
        tmp_path / "out",
        "--lexicon",
        f"characters:{tmp_path / 'tokens.txt'}",
    )
    found = read_hypotheses(tmp_path / "out/hyp-test.txt")
    invoke("decode", run, corpus / "labeled.jsonl.gz", tmp_path / "own", "--decoder", "greedy")
    own = read_hypotheses(tmp_path / "own/hyp-test.txt")
    assert {key: text.replace(" ", "") for key, text in own.items()} == found


class Models:
    """Models of the corpus' words with random weights, as files of each kind, and their scores by hand: (T, F) -> (T, V)."""

    def __init__(self, corpus: Path, folder: Path) -> None:
        self.lexicon = Lexicon.read(corpus / "lexicon.txt")
        self.inventory = Inventory.from_lexicon(self.lexicon, "hmm", states_per_phone=1)
        self.folder, self.cuts = folder, corpus / "labeled.jsonl.gz"
        classes = len(self.inventory)
        self.priors = [torch.softmax(torch.randn(classes, generator=self._seed(n)), 0) for n in range(2)]
        self.networks = []
        for number, prior in enumerate(self.priors):
            torch.manual_seed(number)
            network = BLSTMTeacher(192, classes, hidden_dim=16, num_layers=1).eval()
            network.output.weight.data *= 30
            self.networks.append(network)
            self.trained(network, prior.log()).save(folder / f"run-{number}/final.pt")

    @staticmethod
    def _seed(number: int) -> torch.Generator:
        return torch.Generator().manual_seed(number)

    def trained(self, network: BLSTMTeacher, log_prior: Tensor | None) -> TrainedModel:
        args = {"hidden_dim": 16, "num_layers": 1}
        factory = "asrkd.models:BLSTMTeacher"
        return TrainedModel(network.state_dict(), factory, args, FrontEnd(), self.inventory, 1, log_prior)

    def posteriors(self, network: Any, features: Tensor) -> Tensor:
        with torch.no_grad():
            return network(features[None], torch.tensor([len(features)]))[0][0].softmax(-1)

    def folder_of_a_run(self) -> tuple[str, Callable[[Tensor], Tensor]]:
        return str(self.folder / "run-0"), lambda x: (self.posteriors(self.networks[0], x) / self.priors[0]).log()

    def int8(self) -> tuple[str, Callable[[Tensor], Tensor]]:
        network = to_int8(self.networks[1])
        return f"int8:{self.folder / 'run-1'}", lambda x: (self.posteriors(network, x) / self.priors[1]).log()

    def ensemble(self) -> tuple[str, Callable[[Tensor], Tensor]]:
        weights = (0.75, 0.25)
        members = [{"spec": str(self.folder / f"run-{n}"), "weight": 4 * weight} for n, weight in enumerate(weights)]
        (self.folder / "both.yaml").write_text(yaml.safe_dump({"teachers": members}))
        prior = sum(weight * one for weight, one in zip(weights, self.priors, strict=True))

        def scores(x: Tensor) -> Tensor:
            each = [weight * self.posteriors(one, x) for weight, one in zip(weights, self.networks, strict=True)]
            return (sum(each) / prior).log()  # type: ignore[arg-type]

        return f"ensemble:{self.folder / 'both.yaml'}", scores

    def onnx(self) -> tuple[str, Callable[[Tensor], Tensor]]:
        value, names = helper.make_tensor_value_info, ["features", "feature_lengths", "logits", "logit_lengths"]
        classes = len(self.inventory)
        weights = torch.randn(192, classes, generator=self._seed(2)).numpy() / 4
        nodes = [
            helper.make_node("MatMul", ["features", "W"], ["logits"]),
            helper.make_node("Identity", ["feature_lengths"], ["logit_lengths"]),
        ]
        inputs = [value(names[0], TensorProto.FLOAT, ["N", "T", 192]), value(names[1], TensorProto.INT64, ["N"])]
        outputs = [value(names[2], TensorProto.FLOAT, ["N", "T", classes]), value(names[3], TensorProto.INT64, ["N"])]
        graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(weights, "W")])
        opset = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), self.folder / "graph.onnx")
        content = {"front_end": FrontEnd().to_dict(), "inventory": self.inventory.to_dict()}
        content |= {"log_prior": self.priors[0].log().tolist()}
        (self.folder / "graph.onnx.json").write_text(json.dumps(content))
        return f"onnx:{self.folder / 'graph.onnx'}", lambda x: (
            (x @ torch.from_numpy(weights)).softmax(-1) / self.priors[0]
        ).log()

    def texts(self, scores: Callable[[Tensor], Tensor], scale: float) -> dict[str, str]:
        graph = word_loop_graph(self.lexicon, self.inventory, insertion_penalty=0.5)
        found = {}
        for cut in CutSet.from_file(self.cuts):
            features = FrontEnd()(torch.from_numpy(cut.load_audio()[0]))
            of_cut = (scale * scores(features)).numpy().astype(np.float32)
            found[cut.id] = " ".join(graph_decode(of_cut, graph).words)
        return found


@pytest.mark.parametrize("kind", ["folder_of_a_run", "int8", "ensemble", "onnx"])
def test_a_model_of_any_kind_is_decoded_by_its_scores(corpus: Path, tmp_path: Path, kind: str) -> None:
    models = Models(corpus, tmp_path)
    spec, scores = getattr(models, kind)()
    options = ["--lexicon", corpus / "lexicon.txt", "--acoustic-scale", 0.4, "--insertion-penalty", 0.5]
    invoke("decode", spec, models.cuts, tmp_path / "out", *options)
    expected = models.texts(scores, 0.4)
    assert read_hypotheses(tmp_path / "out/hyp-test.txt") == expected
    assert len(set(expected.values())) > 3
    # The priors matter, so they were divided by.
    assert models.texts(lambda x: scores(x) + models.priors[kind == "int8"].log(), 0.4) != expected


def test_a_model_or_device_that_cannot_be_used_is_said_before_audio_is_read(corpus: Path, tmp_path: Path) -> None:
    models = Models(corpus, tmp_path)
    bare = models.trained(models.networks[0], None)
    bare.save(tmp_path / "bare/final.pt")
    (tmp_path / "empty").mkdir()
    for error, said, arguments in (
        (ModelError, "brings none; give a run of asrkd train", [tmp_path / "bare"]),
        (ModelError, "final.pt", [tmp_path / "empty"]),
        (ModelError, "of no known kind; give one of checkpoint:PATH", [tmp_path / "none"]),
        (ConfigError, "device 'cuda:99' cannot be used", [tmp_path / "run-0", "--device", "cuda:99"]),
    ):
        spec, *options = arguments
        with pytest.raises(error, match=said):
            invoke("decode", spec, models.cuts, tmp_path / "out", "--lexicon", corpus / "lexicon.txt", *options)
    assert not (tmp_path / "out").exists()
