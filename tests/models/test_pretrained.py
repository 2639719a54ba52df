"""Pretrained encoders against transformers' own forward pass, one utterance at a time, and what is refused."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from pretrained_helpers import READS, save_encoder
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asrkd.corpus.waveform import front_end_from_dict
from asrkd.errors import AsrkdError, ConfigError, MismatchError, ModelError
from asrkd.models import Pretrained, build_model, check_model

OF_SAMPLES = ["wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "data2vec-audio", "wav2vec2-conformer"]
# Of large models: a norm of frames before each layer, and in the convolutions.
STABLE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}
LENGTHS = (12800, 7123, 23457, 9999)


def pretrained(encoder: Path, front_end: Any, **args: Any) -> Pretrained:
    model = build_model(
        "asrkd.models:Pretrained", {"name": str(encoder), **args}, input_dim=front_end.feature_dim, num_classes=5
    )
    assert isinstance(model, Pretrained)
    return model.eval()


def noises() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    levels = zip(LENGTHS, (0.1, 0.003, 0.3, 0.05), strict=True)
    return [torch.randn(count, generator=generator) * level for count, level in levels]


@torch.no_grad()
def outputs(model: Pretrained, front_end: Any) -> list[Tensor]:
    """(T', V) logits of the noises, in one batch."""
    features = [front_end(samples) for samples in noises()]
    logits, lengths = model(pad_sequence(features, batch_first=True), torch.tensor([len(one) for one in features]))
    law = front_end.frame_law(2 if features[0].shape[1] > 1 else 1)
    assert lengths.tolist() == [law.num_frames(count) for count in LENGTHS]
    return [row[:length] for row, length in zip(logits, lengths.tolist(), strict=True)]


@pytest.mark.parametrize(("family", "changes"), [(family, {}) for family in OF_SAMPLES] + [("wav2vec2", STABLE)])
def test_an_encoder_of_samples_is_transformers_own(family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    encoder = save_encoder(tmp_path, family, **changes)
    front_end = front_end_from_dict(READS["wav2vec2"][0])
    model = pretrained(encoder, front_end)
    check_model(model, front_end, 5)
    alone = transformers.AutoModel.from_pretrained(encoder).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(encoder)
    for samples, logits in zip(noises(), outputs(model, front_end), strict=True):
        with torch.no_grad():
            inputs = extractor(samples.numpy(), sampling_rate=16000, return_tensors="pt")
            expected = model.output(alone(**inputs).last_hidden_state[0])
        assert float(expected.std(dim=0).mean()) > 0.05
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def whisper_by_transformers(encoder: Path, features: Tensor) -> Tensor:
    """(T', D), by transformers' own forward pass of an encoder whose window is as long as the utterance, an even number of frames."""
    module = transformers.WhisperModel.from_pretrained(encoder).get_encoder().eval()
    positions = len(features) // 2
    module.config.max_source_positions = positions
    embedding = torch.nn.Embedding(positions, module.embed_positions.embedding_dim)
    embedding.weight.data = module.embed_positions.weight.data[:positions]
    module.embed_positions = embedding
    with torch.no_grad():
        hidden: Tensor = module(features.T[None]).last_hidden_state[0]
    return hidden


def test_whispers_encoder_is_transformers_own(tmp_path: Path) -> None:
    encoder = save_encoder(tmp_path, "whisper")
    front_end = front_end_from_dict(READS["whisper"][0])
    model = pretrained(encoder, front_end)
    check_model(model, front_end, 5, 2)
    even = 0
    for samples, logits in zip(noises(), outputs(model, front_end), strict=True):
        features = front_end(samples)
        with torch.no_grad():
            single = model(features[None], torch.tensor([len(features)]))[0][0]
        torch.testing.assert_close(logits, single, atol=1e-5, rtol=0)
        if len(features) % 2 == 0:
            even += 1
            with torch.no_grad():
                expected = model.output(whisper_by_transformers(encoder, features))
            assert float(expected.std(dim=0).mean()) > 0.05
            torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert 0 < even < len(LENGTHS)


def test_an_utterance_beyond_whispers_positions_fails(tmp_path: Path) -> None:
    model = pretrained(save_encoder(tmp_path, "whisper"), front_end_from_dict(READS["whisper"][0]))
    assert model.max_features == 200
    assert model(torch.zeros(1, 200, 80), torch.tensor([200]))[0].shape == (1, 100, 5)
    with pytest.raises(ValueError, match="has 101 frames, but the encoder has positions for 100"):
        model(torch.zeros(1, 201, 80), torch.tensor([201]))


def test_the_first_layers_are_kept(tmp_path: Path) -> None:
    encoder = save_encoder(tmp_path, "wav2vec2")
    front_end = front_end_from_dict(READS["wav2vec2"][0])
    model = pretrained(encoder, front_end, layers=2)
    alone = transformers.AutoModel.from_pretrained(encoder).eval()
    samples = front_end(noises()[0])
    with torch.no_grad():
        expected = alone(samples.T, output_hidden_states=True).hidden_states[2]
        found = model(samples[None], torch.tensor([len(samples)]))[0]
        torch.testing.assert_close(found, model.output(expected), atol=1e-5, rtol=0)
    assert {depth for depth in model.parameter_depths().values()} == {0, 1, 2}


def test_a_fine_tuned_ctc_model_gives_its_encoder(tmp_path: Path) -> None:
    base = save_encoder(tmp_path / "base", "wav2vec2")
    config = transformers.AutoConfig.from_pretrained(base, vocab_size=7)
    model = transformers.Wav2Vec2ForCTC.from_pretrained(base, config=config)
    model.save_pretrained(tmp_path / "ctc")
    transformers.AutoFeatureExtractor.from_pretrained(base).save_pretrained(tmp_path / "ctc")
    front_end = front_end_from_dict(READS["wav2vec2"][0])
    one, other = (pretrained(tmp_path / name, front_end).encoder.state_dict() for name in ("base", "ctc"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_masks_are_the_encoders_own_and_follow_torchs_seed(tmp_path: Path) -> None:
    masks = {"mask_time_prob": 0.5, "mask_time_length": 2, "attention_dropout": 0.0, "hidden_dropout": 0.0}
    off = {"activation_dropout": 0.0, "feat_proj_dropout": 0.0}
    front_end = front_end_from_dict(READS["wav2vec2"][0])
    model = pretrained(save_encoder(tmp_path, "wav2vec2"), front_end, settings=masks | off)
    features = front_end(noises()[0])[None]

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        logits: Tensor = model(features, torch.tensor([features.shape[1]]))[0]
        return logits.detach()

    plain = run(1)
    assert torch.equal(plain, run(2))
    model.train()
    np.random.seed(5)
    first = run(1)
    drawn = np.random.random()
    np.random.seed(6)
    assert torch.equal(first, run(1))
    assert not torch.equal(first, run(2))
    assert not torch.equal(first, plain)
    # NumPy's own generator is as it was.
    np.random.seed(5)
    assert np.random.random() == drawn
    # An utterance shorter than a mask is not masked, where transformers would refuse it.
    model.encoder.config.mask_time_length = 1000
    assert torch.equal(run(1), plain)


def test_low_rank_adapters_are_all_that_is_trained(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    front_end = front_end_from_dict(READS["whisper"][0])
    model = pretrained(save_encoder(tmp_path, "whisper"), front_end, lora={"r": 2})
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all("lora_" in name or name.startswith("output.") for name in trained)
    again = Pretrained(80, 5, **model.checkpoint_args)
    again.load_state_dict(model.state_dict())
    features = front_end(noises()[0])[None]
    lengths = torch.tensor([features.shape[1]])
    assert torch.equal(model(features, lengths)[0], again.eval()(features, lengths)[0])


def refusal(encoder: Path | str, error: type[AsrkdError], **args: Any) -> str:
    front_end = front_end_from_dict(READS["whisper" if args.pop("whisper", False) else "wav2vec2"][0])
    with pytest.raises(error) as raised:
        check_model(
            build_model("asrkd.models:Pretrained", {"name": str(encoder), **args}, input_dim=front_end.feature_dim, num_classes=5),
            front_end,
            5,
        )  # fmt: skip
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"layers": 4}, "model.args.layers: is 4, but the encoder of .* has 3 layers; give 1 to 3"),
        ({"layers": 0}, "model.args.layers: is 0"),
        ({"layers": True}, "model.args.layers: is True"),
        ({"layers": "2"}, "model.args.layers: is '2'"),
        ({"settings": {"mask_time_probe": 0.1}}, "model.args.settings.mask_time_probe: .*did you mean 'mask_time_prob'"),
        ({"settings": {"hidden_dropout": 1.5}}, "model.args.settings.hidden_dropout: must be at least 0 and below 1, not 1.5"),
        ({"settings": {"dropout": 0.1}}, "model.args.settings.dropout: is 0.1, but the encoder of .* has none"),
        ({"settings": {"mask_feature_prob": 0.1, "mask_feature_length": 17}}, "mask_feature_length: is 17, but the frames of .* have 16"),
        ({"lora": {"r": 2, "target_modules": ["nowhere"]}}, "model.args.lora: peft refuses .*nowhere"),
        ({"lora": {"rank": 2}}, "model.args.lora: peft refuses .*rank"),
        ({"whisper": True}, "front_end: the encoder wav2vec2 reads samples, but the front end gives 80 values a frame; set front_end: .kind: waveform"),
        ({"name": ""}, "model.args.name: is ''; give the folder"),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be(args: dict[str, Any], message: str, tmp_path: Path) -> None:
    if "lora" in args:
        pytest.importorskip("peft")
    encoder = save_encoder(tmp_path, "wav2vec2")
    said = refusal(args.pop("name", encoder), ConfigError, **args)
    assert re.search(message, said), said


def test_whisper_has_no_masks_inside(tmp_path: Path) -> None:
    said = refusal(save_encoder(tmp_path, "whisper"), ConfigError, whisper=True, settings={"mask_time_prob": 0.1})
    assert "has none; mask its features (augment.time_masks" in said


def test_features_of_another_front_end_are_refused(tmp_path: Path) -> None:
    encoder = save_encoder(tmp_path, "wav2vec2")
    model = pretrained(encoder, front_end_from_dict(READS["wav2vec2"][0]))
    for change, message in (
        ({"normalize": False}, "front_end.normalize is False, .*trained on normalize True"),
        ({"sampling_rate": 8000}, "front_end.sampling_rate is 8000"),
        ({"shift": 160}, "front_end.shift is 160"),
    ):
        with pytest.raises(MismatchError, match=message):
            check_model(model, front_end_from_dict(READS["wav2vec2"][0] | change), 5)


def test_folders_that_are_no_encoder(tmp_path: Path) -> None:
    assert "is not there" in refusal(tmp_path / "nothing", ModelError)
    (tmp_path / "empty").mkdir()
    assert "cannot be loaded as a pretrained encoder" in refusal(tmp_path / "empty", ModelError)

    text = transformers.BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=9)  # fmt: skip
    transformers.BertModel(text).save_pretrained(tmp_path / "bert")
    assert "is a 'bert', which is not an encoder that is known here" in refusal(tmp_path / "bert", ModelError)

    encoder = save_encoder(tmp_path / "deaf", "wav2vec2")
    (encoder / "preprocessor_config.json").unlink()
    assert "has no feature extractor of samples" in refusal(encoder, ModelError)

    encoder = save_encoder(tmp_path / "whole", "wav2vec2")
    config = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    assert "the weights of" in (said := refusal(encoder, ModelError))
    assert "would make up at random" in said


def test_a_name_without_a_network_is_refused_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    began = time.monotonic()
    said = refusal("nobody/wav2vec2-of-nobody", ModelError)
    assert "it is not a folder here, not in the hub's cache, and the hub cannot give it" in said
    assert time.monotonic() - began < 30
