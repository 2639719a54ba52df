"""Students of characters, pieces of words and a teacher's units: tokens are made, a teacher trains and labels, students learn and are decoded."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from lhotse import CutSet, Recording, SupervisionSegment
from training_helpers import settings

from asrkd.acoustic import TrainedModel, load_model
from asrkd.alignment.align_store import align_store
from asrkd.cli import cli
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lang import read_lang
from asrkd.corpus.tokenizer import normalized, read_tokenizer, tokenizer_from_dict
from asrkd.corpus.train_tokens import make_tokens
from asrkd.errors import ConfigError, CorpusError, MismatchError, StoreError
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store
from asrkd.training.trainer import Trainer

# A folder with speechocean762 as files: utts.tsv (id, path, speaker, text) and audio; by default the 20 utterances that are kept here.
SPEECHOCEAN = Path(os.environ.get("ASRKD_SPEECHOCEAN762") or Path(__file__).parents[1] / "data" / "speech")


def speechocean(folder: Path) -> Path:
    """Its first 20 utterances."""
    with open(SPEECHOCEAN / "utts.tsv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))[:20]
    cuts = []
    for row in rows:
        cut = Recording.from_file(SPEECHOCEAN / row["path"], recording_id=row["id"]).to_cut()
        cut.id = row["id"]
        cut.supervisions = [
            SupervisionSegment(cut.id, cut.recording_id, 0.0, cut.duration, text=row["text"], speaker=row["speaker"])
        ]
        cuts.append(cut)
    CutSet.from_cuts(cuts).to_file(folder / "cuts.jsonl.gz")
    return folder / "cuts.jsonl.gz"


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def stored(cuts: Path, root: Path, **options: object) -> str:
    plan(str(cuts), str(root), embed="audio", **options)  # type: ignore[arg-type]
    run(Local(Store.open(str(root))))
    return str(root)


@pytest.mark.slow
@pytest.mark.parametrize("corpus_name", ["synthetic", "speechocean762"])
@pytest.mark.parametrize("kind", ["characters", "bpe", "unigram"])
def test_students_of_tokens_train_learn_from_a_teacher_and_are_decoded(
    kind: str, corpus_name: str, corpus: Path, tmp_path: Path
) -> None:
    cuts = corpus / "labeled.jsonl.gz" if corpus_name == "synthetic" else speechocean(tmp_path)
    sizes = {"bpe": 60, "unigram": 40} if corpus_name == "speechocean762" else {"bpe": 16, "unigram": 14}
    tokens = tmp_path / "tokens"
    said = invoke("tokens", cuts, tokens, "--kind", kind, "--size", sizes.get(kind, 0), "--case", "lower")
    assert f"lexicon: 'lang:{tokens}', text: {{case: lower}}" in said
    labeled = stored(cuts, tmp_path / "labeled")
    inventory = {"lexicon": f"lang:{tokens}", "text": {"case": "lower"}}
    changes: dict = {
        "sources": {"labeled": {"store": labeled}},
        "schedule": [{"steps": 3, "mixture": {"labeled": 1}}],
        "dev": labeled,
        "dev_decoding": {"every": 1},
        "eval_steps": 3,
    }
    teacher = Trainer(settings(corpus, tmp_path / "teacher", inventory=inventory, **changes))
    figures = teacher.train()
    assert np.isfinite(figures["dev"]) and figures["dev_wer"] > 0
    # The student takes units and tokenizer of the store, for transcripts too, and no path of the tokens is needed again.
    soft = stored(cuts, tmp_path / "soft", teacher=f"checkpoint:{tmp_path / 'teacher'}", codec="topk:8")
    shutil.rmtree(tokens)
    changes |= {
        "sources": {"soft": {"store": soft, "kind": "soft"}, "labeled": {"store": labeled}},
        "schedule": [{"steps": 3, "mixture": {"soft": 1, "labeled": 1}}],
    }
    student = Trainer(settings(corpus, tmp_path / "student", inventory={"store": soft}, **changes))
    assert student.inventory == teacher.inventory and student.lexicon == teacher.lexicon
    figures = student.train()
    assert np.isfinite(figures["dev"]) and figures["dev_wer"] > 0
    for name in ("teacher", "student"):
        invoke("decode", tmp_path / name, cuts, tmp_path / "out", "--name", name)
        summary = (tmp_path / f"out/wer-summary-{name}.txt").read_text()
        assert "WER" in summary or "wer" in summary.lower()
    references = (tmp_path / "out/ref-teacher.txt").read_text()
    assert references == references.lower()
    if (kind, corpus_name) == ("bpe", "synthetic"):
        invoke("export", "onnx", tmp_path / "student", tmp_path / "onnx")
        assert load_model(f"onnx:{tmp_path / 'onnx/model.onnx'}").tokenizer == teacher.lexicon
        invoke("export", "web", tmp_path / "student", tmp_path / "web")
    if kind != "characters":
        return
    aligned = tmp_path / "aligned"
    assert align_store(Store.open(labeled), str(aligned), None, model=f"checkpoint:{tmp_path / 'student'}").count > 0


@pytest.mark.slow
def test_a_flat_start_of_characters(corpus: Path, tmp_path: Path) -> None:
    make_tokens([str(corpus / "labeled.jsonl.gz")], str(tmp_path / "tokens"), "characters")
    aligned = str(tmp_path / "aligned")
    spec, labeled = f"lang:{tmp_path / 'tokens'}", Store.open(str(corpus / "stores/labeled"))
    assert align_store(labeled, aligned, spec, states_per_phone=1, max_unaligned=0.6).count >= 10
    # The blank of the table is not a class of an hmm.
    states = Inventory.from_lexicon(read_lang(str(tmp_path / "tokens")), "hmm", states_per_phone=1)
    first = next(label for row in Store.open(aligned).rows() for label in row["alignment"] if label)
    assert states.units[first] == "▁_0" and "<blk>_0" not in states.units


def test_a_checkpoint_has_the_tokenizer_whole(corpus: Path, tmp_path: Path) -> None:
    make_tokens([str(corpus / "labeled.jsonl.gz")], str(tmp_path / "tokens"), "characters")
    inventory = {"lexicon": f"lang:{tmp_path / 'tokens'}", "text": {"punctuation": "remove"}}
    changes: dict = {"schedule": [{"steps": 1, "mixture": {"labeled": 1}}], "dev": None}
    trainer = Trainer(settings(corpus, tmp_path / "run", inventory=inventory, **changes))
    trainer.train()
    kept = load_model(f"checkpoint:{tmp_path / 'run'}").text_tokenizer()
    assert kept == trainer.lexicon and normalized(kept, "low, high!") == "low high"
    # One of before there were tokenizers in checkpoints is read, too.
    old = TrainedModel.read(tmp_path / "run")
    assert old.tokenizer == kept
    # Other rules are another training.
    changed = {"text": {"punctuation": "keep"}}
    with pytest.raises(ConfigError, match="inventory.text.punctuation"):
        Trainer(settings(corpus, tmp_path / "run", inventory=inventory | changed, **changes))


def test_transcripts_that_cannot_be_spelled_are_told_before_the_first_update(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "tokens.txt").write_text("<blk> 0\n▁ 1\nl 2\no 3\nw 4\n")
    config = settings(corpus, tmp_path / "run", inventory={"lexicon": f"characters:{tmp_path / 'tokens.txt'}"})
    with pytest.raises(
        CorpusError, match=r"source 'labeled' \(.*\): \d+ of \d+ transcripts cannot be spelled: .*without a token are '"
    ) as error:
        Trainer(config)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run/config.yaml").exists()


@pytest.mark.parametrize(
    ("break_it", "error", "why"),
    [
        (lambda folder: (folder / "tokens.txt").write_text("a 0\n▁ 1\n"), ConfigError, "'ctc' needs a blank"),
        (lambda folder: (folder / "tokens.txt").unlink(), CorpusError, "neither tokens.txt"),
        (lambda folder: (folder / "bpe.model").write_text("text\n"), CorpusError, "is not a SentencePiece model"),
    ],
)
def test_folders_that_cannot_be_used(
    corpus: Path, tmp_path: Path, break_it: Callable[[Path], object], error: type[Exception], why: str
) -> None:
    make_tokens([str(corpus / "labeled.jsonl.gz")], str(tmp_path / "tokens"), "characters")
    break_it(tmp_path / "tokens")
    with pytest.raises(error, match=why):
        Trainer(settings(corpus, tmp_path / "run", inventory={"lexicon": str(tmp_path / "tokens")}))


def test_units_of_a_store(corpus: Path, tmp_path: Path) -> None:
    labeled = str(corpus / "stores/labeled")
    with pytest.raises(ConfigError, match="is a store of transcripts, which has no units"):
        Trainer(settings(corpus, tmp_path / "run", inventory={"store": labeled}))
    # Of phones, whose lexicon the teacher brings.
    changes: dict = {"schedule": [{"steps": 1, "mixture": {"labeled": 1}}], "dev": None}
    Trainer(settings(corpus, tmp_path / "teacher", **changes)).train()
    cuts = corpus / "labeled.jsonl.gz"
    soft = stored(cuts, tmp_path / "soft", teacher=f"checkpoint:{tmp_path / 'teacher'}", codec="topk:4")
    changes |= {
        "sources": {"soft": {"store": soft, "kind": "soft"}},
        "schedule": [{"steps": 1, "mixture": {"soft": 1}}],
    }
    with_dev = changes | {"dev": labeled, "dev_decoding": {"every": 1}}
    student = settings(corpus, tmp_path / "student", inventory={"store": soft}, **with_dev)
    lexicon = read_tokenizer(str(corpus / "lexicon.txt"))
    assert "dev_wer" in Trainer(student).train()
    assert TrainedModel.read(tmp_path / "student").tokenizer == lexicon
    assert Trainer(student).inventory == Inventory.from_lexicon(lexicon, "ctc")
    # Copies keep it; another one in its place is another training.
    invoke("store", "compact", soft, tmp_path / "compact")
    held = json.loads((tmp_path / "compact/tokenizer.json").read_text())
    assert tokenizer_from_dict(held) == lexicon
    held["values"]["lines"] = held["values"]["lines"].replace("low\t", "slow\t")
    (tmp_path / "soft/tokenizer.json").write_text(json.dumps(held))
    with pytest.raises(ConfigError, match="inventory.store"):
        Trainer(student)
    (tmp_path / "soft/tokenizer.json").write_text('{"kind": "lexicon"}')
    with pytest.raises(StoreError, match="tokenizer.json of the store .* is damaged .*inventory.lexicon"):
        Trainer(student)
    # Of a teacher that brings nothing: the student learns, but what it finds is not text without a lexicon.
    (tmp_path / "soft/tokenizer.json").unlink()
    Trainer(settings(corpus, tmp_path / "no-text", inventory={"store": soft}, **changes)).train()
    assert TrainedModel.read(tmp_path / "no-text").tokenizer is None
    with pytest.raises(CorpusError, match="nothing says how '.*' is spelled with the .* units of a teacher"):
        Trainer(settings(corpus, tmp_path / "other", inventory={"store": soft}, **with_dev))
    both = {"store": soft, "lexicon": str(corpus / "lexicon.txt")}
    assert "dev_wer" in Trainer(settings(corpus, tmp_path / "both", inventory=both, **with_dev)).train()
    (tmp_path / "other.txt").write_text("low l ow\nhigh h\nup l h\n")
    with pytest.raises(MismatchError, match="spells with 1 tokens that are not among the 3 units \\('ow'\\)"):
        Trainer(
            settings(corpus, tmp_path / "none", inventory=both | {"lexicon": str(tmp_path / "other.txt")}, **with_dev)
        )
    invoke("decode", tmp_path / "no-text", cuts, tmp_path / "out", "--lexicon", corpus / "lexicon.txt")


@pytest.mark.slow
@pytest.mark.parametrize("pieces", [True, False])
def test_a_student_of_a_teacher_of_transformers_learns_from_transcripts_by_its_tokenizer(
    pieces: bool, corpus: Path, tmp_path: Path
) -> None:
    tokenizer = save_wav2vec2(tmp_path / "teacher", pieces)
    cuts, labeled = corpus / "labeled.jsonl.gz", str(corpus / "stores/labeled")
    soft = stored(cuts, tmp_path / "soft", teacher=f"transformers:{tmp_path / 'teacher'}", codec="topk:4")
    shutil.rmtree(tmp_path / "teacher")
    changes: dict = {
        "sources": {"soft": {"store": soft, "kind": "soft", "frame_rate_map": "pool"}, "labeled": {"store": labeled}},
        "schedule": [{"steps": 3, "mixture": {"soft": 1, "labeled": 1}}],
        "dev_decoding": {"every": 1},
        "inventory": {"store": soft},
    }
    student = Trainer(settings(corpus, tmp_path / "student", **changes))
    assert student.inventory.units[0] == "<blk>" and len(student.inventory) == len(tokenizer)
    # As the package of the teacher spells, class for class; one of characters spells in upper case.
    said = "low high up"
    ids = [token for spellings in student.lexicon.encode(said) for token in spellings[0]]
    assert [student.lexicon.tokens[token] for token in ids] == tokenizer.tokenize(said)
    assert student.lexicon.decode(ids) == (said if pieces else said.upper())
    figures = student.train()
    assert np.isfinite(figures["dev"]) and figures["dev_wer"] > 0
    invoke("decode", tmp_path / "student", cuts, tmp_path / "out")
    invoke("export", "onnx", tmp_path / "student", tmp_path / "onnx")
    assert load_model(f"onnx:{tmp_path / 'onnx/model.onnx'}").tokenizer == student.lexicon


def save_wav2vec2(folder: Path, pieces: bool) -> Any:
    """A small CTC model of transformers with random weights, of pieces by a tokenizer.json or of characters; the tokenizer."""
    transformers = pytest.importorskip("transformers")
    folder.mkdir()
    if pieces:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        made = Tokenizer(models.BPE(unk_token="<unk>"))
        made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = trainers.BpeTrainer(vocab_size=16, special_tokens=["<unk>"], show_progress=False)
        made.train_from_iterator(["low high up"] * 9, trainer)
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", pad_token="<pad>")
    else:
        characters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"GHILOPUW"]
        (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(characters)}))
        tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), do_lower_case=True)
    tokenizer.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=16000).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=[8] * 7,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    transformers.Wav2Vec2ForCTC(config).save_pretrained(folder)
    return tokenizer


@pytest.mark.parametrize(
    ("kind", "size", "texts", "why"),
    [
        ("bpe", 5000, ["low high"] * 9, "cannot make 5000 tokens of kind 'bpe' .*choose another --size"),
        ("unigram", 3, ["low high"] * 9, "cannot make 3 tokens"),
        ("bpe", 10, [], "has no transcripts"),
        ("bpe", 10, ["", "?!"], "has no transcripts"),
        ("characters", 0, ["...", ""], "no transcripts with text"),
        ("characters", 0, ["lo▁w"], "marks the beginning of words"),
        ("unigram", 10, ["lo▁w"], "marks the beginning of words"),
        ("syllables", 10, ["low"], "kind is 'syllables', but must be one of bpe, unigram, characters"),
    ],
)
def test_tokens_that_cannot_be_made(tmp_path: Path, kind: str, size: int, texts: list[str], why: str) -> None:
    from asrkd.corpus import train_tokens
    from asrkd.corpus.text_rules import TextRules

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_tokens, "transcripts", lambda cuts: iter(texts))
        with pytest.raises((ConfigError, CorpusError), match=why) as error:
            make_tokens(["cuts"], str(tmp_path / "out"), kind, size=size, rules=TextRules(punctuation="remove"))
    assert "\n" not in str(error.value) and not (tmp_path / "out/tokens.txt").exists()


@pytest.mark.parametrize("kind", ["characters", "bpe", "unigram"])
def test_the_same_transcripts_make_the_same_tokens(corpus: Path, tmp_path: Path, kind: str) -> None:
    made = []
    for name in "ab":
        make_tokens([str(corpus / "labeled.jsonl.gz")], str(tmp_path / name), kind, size=14)
        made.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert made[0] == made[1]
    tokenizer = read_lang(str(tmp_path / "a"))
    assert Inventory.from_lexicon(tokenizer, "ctc").units == tokenizer.tokens
    with pytest.raises(ConfigError, match="is there already, and models may have been trained with it"):
        make_tokens([str(corpus / "labeled.jsonl.gz")], str(tmp_path / "a"), kind, size=14)
