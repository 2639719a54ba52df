"""The seam of tokenizers: one that the library does not know goes through planning, alignment, training and decoding."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from training_helpers import settings

from asrkd import text
from asrkd.alignment.align_store import align_store
from asrkd.cli.decode import decode_command
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.corpus.tokenizer import (
    TOKENIZERS,
    TokenizerKind,
    read_tokenizer,
    spell,
    tokenizer_fingerprint,
    vocabulary,
)
from asrkd.decoding.decode import graph_decode
from asrkd.decoding.greedy import greedy_decode
from asrkd.errors import ConfigError, CorpusError, MismatchError
from asrkd.graphs import word_loop_graph
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store
from asrkd.training.inputs import inputs
from asrkd.training.run_folder import check_resumable
from asrkd.training.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class Letters:
    """A word is the mark of a beginning and its letters."""

    tokens: tuple[str, ...]
    words: tuple[str, ...] | None = None
    complete: bool = False
    kind: str = "letters"

    @classmethod
    def read(cls, path: str) -> Letters:
        words = tuple(text.words(text.read(path)))
        return cls(("▁", *sorted(set("".join(words)))), words)

    def encode(self, transcript: str, *, what: str = "transcript") -> list[list[tuple[int, ...]]]:
        try:
            return [[tuple(map(self.tokens.index, f"▁{word}"))] for word in text.words(transcript)]
        except ValueError:
            raise CorpusError(f"{what}: {transcript!r} has characters beyond {''.join(self.tokens)}") from None

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.tokens[number] for number in ids).replace("▁", " ").strip()

    def to_dict(self) -> dict[str, Any]:
        return {"tokens": list(self.tokens), "words": self.words and list(self.words)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Letters:
        return cls(tuple(values["tokens"]), values["words"] and tuple(values["words"]))


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(TOKENIZERS, "letters", TokenizerKind(Letters.read, Letters.from_dict))
    (tmp_path / "words.txt").write_text("low\nhigh\nup\n")
    return f"letters:{tmp_path / 'words.txt'}"


@pytest.mark.slow
def test_a_tokenizer_of_ones_own_plans_aligns_trains_and_decodes(corpus: Path, tmp_path: Path, spec: str) -> None:
    tokenizer = read_tokenizer(spec)
    assert tokenizer.tokens == ("▁", *"ghilopuw")
    labeled = str(corpus / "stores/labeled")

    # A flat start, and a student of its labels.
    aligned = str(tmp_path / "aligned")
    assert align_store(Store.open(labeled), aligned, spec, states_per_phone=1, max_unaligned=0.5).count >= 12
    states = Inventory.from_lexicon(tokenizer, "hmm", states_per_phone=1)
    for row in Store.open(aligned).rows():
        first = states.units[next(label for label in row["alignment"] if label)]
        assert first == "▁_0" and max(row["alignment"]) < len(states)
    inventory = {"lexicon": spec, "topology": "hmm", "states_per_phone": 1}
    sources = {"labeled": {"store": aligned}}
    schedule = [{"steps": 3, "mixture": {"labeled": 1}}]
    hmm = settings(corpus, tmp_path / "hmm", inventory=inventory, sources=sources, schedule=schedule, dev=aligned)
    assert np.isfinite(Trainer(hmm).train()["labeled"])

    # A student by CTC, whose run names the tokenizer, and that labels as a teacher.
    config = settings(corpus, tmp_path / "ctc", inventory=inventory | {"topology": "ctc"}, schedule=schedule)
    assert np.isfinite(Trainer(config).train()["labeled"])
    assert spec in (tmp_path / "ctc/config.yaml").read_text()
    root, cuts = str(tmp_path / "soft"), str(corpus / "labeled.jsonl.gz")
    plan(cuts, root, teacher=f"checkpoint:{tmp_path / 'ctc'}", codec="topk:4", embed="audio")
    run(Local(Store.open(root)))
    assert Store.open(root).identity.inventory == Inventory.from_lexicon(tokenizer, "ctc")

    # Its output is words of the tokenizer's list.
    (tmp_path / "words.txt").rename(tmp_path / "moved.txt")  # the run holds the tokenizer
    command = [str(tmp_path / "ctc"), cuts, str(tmp_path / "out")]
    result = CliRunner().invoke(decode_command, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    said = {word for line in (tmp_path / "out/hyp-test.txt").read_text().splitlines() for word in line.split()[1:]}
    assert said <= {"low", "high", "up"}
    command += ["--name", "other", "--lexicon", spec.replace("words", "moved")]
    assert CliRunner().invoke(decode_command, command, catch_exceptions=False).exit_code == 0
    assert (tmp_path / "out/hyp-other.txt").read_text() == (tmp_path / "out/hyp-test.txt").read_text()
    (tmp_path / "moved.txt").rename(tmp_path / "words.txt")

    # Another list of words under the same name is not the same training.
    check_resumable(tmp_path / "ctc", config, inputs(config))
    (tmp_path / "words.txt").write_text("low\nhigh\nupper\n")
    with pytest.raises((ConfigError, MismatchError), match="lexicon"):
        check_resumable(tmp_path / "ctc", config, inputs(config))


@pytest.mark.parametrize("topology", ["ctc", "hmm"])
def test_without_a_list_of_words_tokens_are_searched_for(spec: str, topology: str) -> None:
    tokenizer = dataclasses.replace(Letters.read(spec.partition(":")[2]), words=None)
    inventory = Inventory.from_lexicon(tokenizer, topology, states_per_phone=1)
    graph = word_loop_graph(tokenizer, inventory)
    ids = [number for spellings in tokenizer.encode("hull low") for number in spellings[0]]
    # Each token twice, and nothing behind it.
    classes = [label for number in ids for label in (number + 1, number + 1, 0)]
    log_probs = np.log(np.eye(len(inventory))[classes] + 1e-3).astype(np.float32)
    found = graph_decode(log_probs, graph)
    assert found.classes.tolist() == classes and graph.text(found.words) == "hull low"
    if inventory.topology.collapses_repeats:
        assert found.words == greedy_decode(log_probs, inventory).words


def test_a_spec_is_a_kind_and_its_argument_or_the_path_of_a_lexicon(tmp_path: Path, spec: str) -> None:
    lexicon = Lexicon.from_pairs([("a", ["x"]), ("b", ["x", "y"])])
    path = tmp_path / "with:colon.txt"
    lexicon.write(path)
    assert read_tokenizer(str(path)) == read_tokenizer(f"lexicon:{path}") == lexicon
    # As in the run folders of before there were kinds.
    assert tokenizer_fingerprint(str(path)) == tokenizer_fingerprint(f"lexicon:{path}") == text.fingerprint(path)
    for missing in (str(tmp_path / "none"), f"letters:{tmp_path / 'none'}"):
        with pytest.raises(CorpusError, match="none"):
            tokenizer_fingerprint(missing)
    assert tokenizer_fingerprint(spec) == tokenizer_fingerprint(spec) != tokenizer_fingerprint(str(path))


@given(
    st.dictionaries(
        st.text("ab", min_size=1, max_size=3), st.lists(st.text("xyz", min_size=1, max_size=3), min_size=1), min_size=1
    )
)
def test_a_lexicon_spells_by_ids_what_its_pronunciations_say(pairs: dict[str, list[str]]) -> None:
    lexicon = Lexicon.from_pairs(
        [(word, list(spelling)) for word, spellings in pairs.items() for spelling in spellings]
    )
    assert {word: tuple(own) for word, own in vocabulary(lexicon).items()} == lexicon.pronunciations
    for word in lexicon.words:
        encoded, named = lexicon.encode(word)[0], spell(lexicon, word)[0]
        assert [lexicon.decode(ids) for ids in encoded] == [" ".join(phones) for phones in named]
