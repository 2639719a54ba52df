"""Posteriors depend on the utterance alone: each family of models, alone and in batches of unequal lengths."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from asrkd import models
from asrkd.acoustic import AcousticModel, as_planned, load_model
from asrkd.acoustic.probe import alone, probed
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.errors import MismatchError, ModelError
from asrkd.models import to_int8

INVENTORY = Inventory(("<blk>", "l", "h"), "ctc")
FRONT_END = FrontEnd(num_mels=8)
TOKENS = ["<pad>", "<s>", "</s>", "<unk>", "|", "l", "h"]
SMALL = {
    "vocab_size": len(TOKENS),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "pad_token_id": 0,
    "feat_extract_norm": "layer",
}


def teacher_of(model: Any, **changes: Any) -> AcousticModel:
    return AcousticModel(model, FRONT_END, INVENTORY, 1, "mine", "f" * 32, **changes)


def largest_difference(teacher: AcousticModel) -> float:
    """Between posteriors of utterances alone and in batches of unequal lengths, in two orders."""
    generator = torch.Generator().manual_seed(1)
    rate = teacher.front_end.sampling_rate
    inputs = [
        teacher.front_end(0.1 * torch.randn(int(seconds * rate), generator=generator)) for seconds in (0.5, 1.1, 0.74)
    ]
    single = [teacher.log_probs(one[None], torch.tensor([len(one)]))[0][0] for one in inputs]
    found = 0.0
    for order in ((0, 1, 2), (1, 0), (2, 0)):
        chosen = [inputs[number] for number in order]
        padded = nn.utils.rnn.pad_sequence(chosen, batch_first=True)
        together, lengths = teacher.log_probs(padded, torch.tensor([len(one) for one in chosen]))
        assert lengths.tolist() == [len(single[number]) for number in order]
        for row, number in zip(together, order, strict=True):
            found = max(found, float((row[: len(single[number])] - single[number]).abs().max()))
    return found


OWN: dict[str, Callable[[], nn.Module]] = {
    "blstm": lambda: models.BLSTMTeacher(FRONT_END.feature_dim, 3, 8, 2),
    "lstm": lambda: models.LSTMStudent(FRONT_END.feature_dim, 3, 8, 2),
    "chunked": lambda: models.Chunked(models.LSTMStudent(FRONT_END.feature_dim, 3, 8, 2)),
    "tdnn": lambda: models.TDNNStudent(FRONT_END.feature_dim, 3),
    "emformer": lambda: models.EmformerStudent(FRONT_END.feature_dim, 3, 16, 2, 16, 2),
    "conformer": lambda: models.ConformerTeacher(FRONT_END.feature_dim, 3, 16, 2, 16, 2, 7),
}


@pytest.mark.parametrize("name", OWN)
def test_own_models_run_in_batches(name: str) -> None:
    torch.manual_seed(0)
    teacher = teacher_of(OWN[name]().eval())
    assert largest_difference(teacher) < 1e-4
    tried = probed(teacher)
    assert not tried.one_by_one and tried.fingerprint == teacher.fingerprint


def test_eight_bits_depend_on_the_batch_and_run_one_by_one() -> None:
    torch.manual_seed(0)
    teacher = teacher_of(to_int8(OWN["lstm"]()))
    assert largest_difference(teacher) > 1e-4
    tried = probed(teacher)
    assert tried.one_by_one and tried.fingerprint != teacher.fingerprint
    assert largest_difference(tried) == 0.0


def save(folder: Path, kind: str, **changes: Any) -> str:
    torch.manual_seed(0)
    settings = SMALL | changes
    getattr(transformers, f"{kind}ForCTC")(getattr(transformers, f"{kind}Config")(**settings)).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({unit: number for number, unit in enumerate(TOKENS)}))
    transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(folder)
    return f"transformers:{folder}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "changes", "one_by_one"),
    [
        ("Wav2Vec2", {}, False),
        ("Wav2Vec2", {"feat_extract_norm": "group"}, True),
        ("Wav2Vec2", {"do_stable_layer_norm": True}, False),
        ("Wav2Vec2Conformer", {}, True),
        ("Wav2Vec2Conformer", {"position_embeddings_type": "rotary"}, True),
        ("Hubert", {}, False),
        ("WavLM", {}, None),
        ("UniSpeech", {}, None),
        ("UniSpeechSat", {}, None),
        ("Data2VecAudio", {"conv_pos_kernel_size": 5}, None),
    ],
)
def test_models_of_transformers(kind: str, changes: dict[str, Any], one_by_one: bool | None, tmp_path: Path) -> None:
    teacher = load_model(save(tmp_path, kind, **changes))
    assert one_by_one is None or teacher.one_by_one is one_by_one
    assert largest_difference(teacher) < 1e-4


@pytest.mark.parametrize("kind", ["SEW", "SEWD"])
def test_models_that_squeeze_frames_keep_their_law_or_are_refused(kind: str, tmp_path: Path) -> None:
    spec = save(tmp_path, kind, squeeze_factor=2, conv_kernel=[10, 3, 3, 3, 3, 2, 2], conv_stride=[5, 2, 2, 2, 2, 2, 2])
    try:
        teacher = load_model(spec)
    except MismatchError as error:
        assert "frames of logits" in str(error)
    else:
        assert largest_difference(teacher) < 1e-4


class Function(nn.Module):
    """A linear layer, and what is done to its output."""

    def __init__(self, change: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.change = nn.Linear(FRONT_END.feature_dim, 3), change

    def forward(self, features: Tensor, lengths: Tensor) -> Any:
        return self.change(self.linear(features), lengths)


def single_only(logits: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    if len(logits) != 1:
        raise ValueError("a batch of one, please")
    return logits, lengths


@pytest.mark.parametrize(
    "change",
    [
        lambda logits, lengths: (logits - logits.mean(1, keepdim=True), lengths),  # over the padding
        lambda logits, lengths: (logits - logits.mean((0, 1)), lengths),  # over the batch
        lambda logits, lengths: (logits + logits.roll(-1, 1), lengths),  # the first frame of the padding
        single_only,
    ],
)
def test_what_depends_on_the_batch_runs_one_by_one(change: Callable[[Tensor, Tensor], Any]) -> None:
    teacher = probed(teacher_of(Function(change)))
    assert teacher.one_by_one and largest_difference(teacher) == 0.0
    assert teacher == alone(teacher_of(teacher.network))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, n: (x.softmax(-1), n), ModelError, "gives probabilities .* without the softmax"),
        (lambda x, n: (torch.dropout(x, 0.5, True), n), ModelError, "other posteriors when it is run again"),
        (lambda x, n: (x * torch.nan, n), ModelError, "gives NaN or infinite logits"),
        (lambda x, n: (x[..., :2], n), ModelError, "gives 2 classes, its inventory has 3"),
        (lambda x, n: (x[:, :-1], n - 1), MismatchError, "gives 11 frames of logits and the length 11"),
        (lambda x, n: (x, n - 1), MismatchError, "gives 12 frames of logits and the length 11"),
        (lambda x, n: (x.transpose(0, 1), n), ModelError, "the batch comes first"),
        (lambda x, n: x, ModelError, "returns a Tensor, but must return the pair"),
        (lambda x, n: (x, n, n), ModelError, "returns a tuple of 3"),
        (lambda x, n: (x, n / 2), ModelError, "lengths of torch.float32"),
        (lambda x, n: (x @ x, n), ModelError, "'mine' fails: RuntimeError: "),
    ],
)
def test_output_that_cannot_be_used_is_refused(
    change: Callable[[Tensor, Tensor], Any], error: type[Exception], message: str
) -> None:
    teacher = teacher_of(Function(change))
    state = torch.random.get_rng_state()
    with pytest.raises(error, match=message) as raised:
        probed(teacher)
    assert "\n" not in str(raised.value) and torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("change", [lambda x, n: (x.log_softmax(-1), n), lambda x, n: (x.half(), n.int())])
def test_log_probabilities_and_other_types_are_accepted(change: Callable[[Tensor, Tensor], Any]) -> None:
    teacher = probed(teacher_of(Function(change)))
    assert not teacher.one_by_one
    features = torch.randn(1, 9, FRONT_END.feature_dim)
    found, _ = teacher.log_probs(features, torch.tensor([9]))
    expected = teacher.network.linear(features).log_softmax(-1)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


def test_the_plan_decides_how_a_teacher_runs() -> None:
    before = teacher_of(Function(lambda x, n: (x - x.mean(1, keepdim=True), n)))
    assert as_planned(before, before.fingerprint) is before  # a store from before there was a probe
    assert as_planned(before, probed(before).fingerprint).one_by_one
    assert not as_planned(before, "0" * 32).one_by_one
    assert probed(dataclasses.replace(before, own=True)).one_by_one is False


def test_models_of_transformers_whose_vocabulary_disagrees(tmp_path: Path) -> None:
    def edit(path: Path, **changes: Any) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    spec = save(tmp_path, "Wav2Vec2")
    config = tmp_path / "config.json"
    for blank in (None, 6):
        edit(config, pad_token_id=blank)
        with pytest.raises(ModelError, match=rf"blank is class {blank} \(pad_token_id\) .* and 0 \('<pad>'\) by the"):
            load_model(spec)
    edit(config, pad_token_id=0)
    more = save(tmp_path / "more", "Wav2Vec2", vocab_size=len(TOKENS) + 2)
    with pytest.raises(ModelError, match=r"has 9 classes .* no token for 2 of them, the first 7"):
        load_model(more)
    headless = tmp_path / "headless"
    save(headless, "Wav2Vec2")
    transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**SMALL)).save_pretrained(headless)
    with pytest.raises(ModelError, match=r"have no 'lm_head.bias' and 1 more, which transformers would make up"):
        load_model(f"transformers:{headless}")
