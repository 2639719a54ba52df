"""Every family of AutoModelForCTC that the installed transformers has: a small model with random weights, saved by the family's own classes,
labels what the model alone gives, one utterance at a time. A family that is new in transformers is tried here without a line being added."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asrkd.acoustic import load_model
from asrkd.acoustic.measured_frames import NoFrameLaw, measured_law
from asrkd.errors import ModelError

FAMILIES = {config.model_type: config for config in transformers.MODEL_FOR_CTC_MAPPING}
# Families that cannot be made small or run here, each with the reason.
NOT_TRIED: dict[str, str] = {}
# Of four utterances; the first is a whole number of frames of 10 to 80 ms.
LENGTHS = (12800, 7123, 23457, 9999)
UNITS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijk"]
# Sizes that configs of the field share; whichever of them a config has are made small.
SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 16,
    "classifier_proj_size": 8,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "conv_pos_kernel_size": 3,
    "subsampling_conv_channels": 8,
    "output_hidden_size": 16,
    "num_buckets": 8,
    "squeeze_factor": 2,
    "context_size": 8,
    "num_adapter_layers": 1,
    "layerdrop": 0.0,
}


def small(config: Any, **changes: Any) -> Any:
    """A config with small sizes, also those of the configs in it."""
    for name, value in vars(config).items():
        if isinstance(value, transformers.PretrainedConfig):
            small(value)
            if hasattr(value, "vocab_size"):
                value.vocab_size = len(UNITS)
        elif name in SMALL:
            setattr(config, name, SMALL[name])
        elif name == "conv_dim":
            setattr(config, name, [8] * len(value))
    if hasattr(config, "num_hidden_layers") and hasattr(config, "subsample_layers"):
        config.subsample_layers = [0]
    for name, value in changes.items():
        setattr(config, name, value)
    return config


def save_family(family: str, folder: Path, *, blank: int = 0, **changes: Any) -> Path:
    """A model of the family with random weights, its feature extractor and a tokenizer of letters."""
    torch.manual_seed(0)
    named = "blank_token_id" if hasattr(FAMILIES[family](), "blank_token_id") else "pad_token_id"
    config = small(FAMILIES[family](), vocab_size=len(UNITS), **{named: blank}, **changes)
    model = transformers.AutoModelForCTC.from_config(config).eval()
    units = [*UNITS[1 : blank + 1], UNITS[0], *UNITS[blank + 1 :]]
    (folder / "vocab.json").write_text(json.dumps({unit: number for number, unit in enumerate(units)}))
    transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    extractor = extractor_of(family, config)
    extractor.save_pretrained(folder)
    # Random heads are almost flat, and a difference would not be seen.
    noise = np.random.default_rng(0).normal(size=16000).astype(np.float32)
    with torch.no_grad():
        logits = model(**extractor(noise, sampling_rate=16000, return_tensors="pt")).logits
        (getattr(model, "ctc_head", None) or model.lm_head).weight.div_(logits.std(dim=1).mean())
    model.save_pretrained(folder)
    return folder


def extractor_of(family: str, config: Any) -> Any:
    """The family's own feature extractor, of as many mel bins as the model reads."""
    # What transformers lists for this family is that of another one; its processor has this one.
    of_bert = transformers.SeamlessM4TFeatureExtractor
    made = of_bert if family == "wav2vec2-bert" else transformers.FEATURE_EXTRACTOR_MAPPING[FAMILIES[family]]
    mels = [getattr(part, "num_mel_bins", None) for part in vars(config).values()]
    extractor = made()
    for size in filter(None, mels):
        extractor = made(**{"num_mel_bins" if hasattr(extractor, "num_mel_bins") else "feature_size": size})
    return extractor


def by_its_own_package(folder: Path) -> Callable[[np.ndarray], Tensor]:
    """Log-posteriors by transformers alone, of one utterance."""
    model = transformers.AutoModelForCTC.from_pretrained(folder).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)

    def run(samples: np.ndarray) -> Tensor:
        inputs = extractor(samples, sampling_rate=16000, return_tensors="pt")
        with torch.no_grad():
            log_probs: Tensor = model(**inputs).logits[0].log_softmax(-1)
        return log_probs

    return run


def check_against_its_own_package(
    folder: Path, lengths: tuple[int, ...] = LENGTHS, spec: str = "", blank: int = 0
) -> None:
    teacher, alone = load_model(spec or f"transformers:{folder}"), by_its_own_package(folder)
    rng = np.random.default_rng(1)
    utterances = [(rng.normal(size=n) * level).astype(np.float32) for n, level in zip(lengths, (0.1, 0.003, 0.3, 0.05), strict=True)]  # fmt: skip
    features = [teacher.front_end(torch.from_numpy(one)) for one in utterances]
    found, frames = teacher.log_probs(pad_sequence(features, batch_first=True), torch.tensor(lengths))
    law = teacher.front_end.frame_law(teacher.subsampling_factor)
    order = [blank, *(number for number in range(len(UNITS)) if number != blank)]
    for one, row, length in zip(utterances, found, frames.tolist(), strict=True):
        expected = alone(one)[:, order]
        assert length == len(expected) == law.num_frames(len(one))
        assert float(expected.std(dim=0).mean()) > 0.1  # the model is not flat
        torch.testing.assert_close(row[:length], expected, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_labels_what_its_own_package_gives(family: str, tmp_path: Path) -> None:
    if family in NOT_TRIED:
        pytest.skip(NOT_TRIED[family])
    check_against_its_own_package(save_family(family, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "changes", "blank"),
    [
        ("wav2vec2", {"feat_extract_norm": "layer", "do_stable_layer_norm": True}, 5),
        ("wav2vec2", {"add_adapter": True, "num_adapter_layers": 2}, 0),
        ("parakeet_ctc", {}, 15),
    ],
    ids=["layer-norm-and-blank-inside", "adapter-of-stride-4", "blank-last"],
)
def test_variants_of_families(family: str, changes: dict[str, Any], blank: int, tmp_path: Path) -> None:
    check_against_its_own_package(save_family(family, tmp_path, blank=blank, **changes), blank=blank)


@pytest.fixture(scope="module")
def wav2vec2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family("wav2vec2", tmp_path_factory.mktemp("wav2vec2"))


@pytest.fixture
def copied(wav2vec2: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(wav2vec2, tmp_path / "model"))


def test_adapters_by_language(tmp_path: Path) -> None:
    """As MMS: a base model, and for each language its adapter, head and vocabulary."""
    folder = save_family("wav2vec2", tmp_path, adapter_attn_dim=4, feat_extract_norm="layer")
    languages = {"eng": UNITS, "fra": [*UNITS, "\u00e9"]}
    for language, units in languages.items():
        torch.manual_seed(len(units))
        model = transformers.Wav2Vec2ForCTC.from_pretrained(folder)
        weights = {name: torch.randn_like(value) for name, value in model._get_adapters().items()}
        weights |= {"lm_head.weight": torch.randn(len(units), 16), "lm_head.bias": torch.zeros(len(units))}
        save_file(weights, folder / f"adapter.{language}.safetensors")
    vocabularies = {name: {unit: number for number, unit in enumerate(units)} for name, units in languages.items()}
    (folder / "vocab.json").write_text(json.dumps(vocabularies))
    (folder / "tokenizer.json").unlink(missing_ok=True)
    transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), target_lang="eng").save_pretrained(folder)
    found = {}
    for language, units in languages.items():
        teacher = load_model(f"transformers:{folder}?language={language}")
        assert teacher.inventory.units == ("<blk>", *units[1:])
        alone = transformers.Wav2Vec2ForCTC.from_pretrained(folder, target_lang=language, ignore_mismatched_sizes=True)
        noise = torch.randn(9000)
        features = teacher.front_end(noise)
        with torch.no_grad():
            expected = alone.eval()(features.T).logits[0].log_softmax(-1)
        log_probs, _ = teacher.log_probs(features[None], torch.tensor([9000]))
        torch.testing.assert_close(log_probs[0], expected, atol=1e-4, rtol=0)
        found[language] = teacher.fingerprint
    assert found["eng"] != found["fra"]
    with pytest.raises(
        ModelError, match=r"no adapter for the language 'deu' \(adapter.deu.safetensors\); there are eng, fra$"
    ):
        load_model(f"transformers:{folder}?language=deu")


def test_an_adapter_of_a_model_without_any(copied: Path) -> None:
    with pytest.raises(ModelError, match="has no adapters for languages .*; leave out \\?language=fra"):
        load_model(f"transformers:{copied}?language=fra")
    with pytest.raises(ModelError, match="the setting 'lang' with the value 'fra' is not known; give language"):
        load_model(f"transformers:{copied}?lang=fra")


def test_a_missing_feature_extractor_or_tokenizer(copied: Path) -> None:
    for file in (*copied.glob("vocab.json"), *copied.glob("tokenizer*"), *copied.glob("special*")):
        file.unlink()
    with pytest.raises(ModelError, match="has no tokenizer that can be loaded .* so its classes have no names"):
        load_model(f"transformers:{copied}")
    (copied / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match="has no feature extractor that can be loaded .*preprocessor_config.json"):
        load_model(f"transformers:{copied}")


def test_a_feature_extractor_of_another_family(copied: Path) -> None:
    transformers.SeamlessM4TFeatureExtractor().save_pretrained(copied)
    with pytest.raises(ModelError, match="it makes input_features, attention_mask, but the model reads input_values"):
        load_model(f"transformers:{copied}")


def test_windows_of_30_seconds_only(tmp_path: Path) -> None:
    folder = save_family("parakeet_ctc", tmp_path)
    transformers.WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    with pytest.raises(ModelError, match="follow no frame law .*as many frames of half a second .*30 s"):
        load_model(f"transformers:{folder}")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (transformers.WhisperConfig, "is a whisper, for which .* as a text teacher \\(text:transformers:NAME\\)"),
        (transformers.BertConfig, "is a bert, for which transformers has no CTC head"),
    ],
)  # fmt: skip
def test_a_checkpoint_of_another_family(config: Any, message: str, tmp_path: Path) -> None:
    config().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=message) as raised:
        load_model(f"transformers:{tmp_path}")
    assert "\n" not in str(raised.value)


def test_an_encoder_without_a_head(tmp_path: Path) -> None:
    folder = save_family("wav2vec2", tmp_path)
    transformers.Wav2Vec2Model.from_pretrained(folder).save_pretrained(folder)
    with pytest.raises(ModelError, match="have no 'lm_head.bias' and 1 more.*once it is fine-tuned with one"):
        load_model(f"transformers:{folder}")


def test_code_that_a_folder_brings_is_not_run(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "own.py").write_text("raise SystemExit('run')\n")
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCTC": "own.Model"}}
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="cannot be loaded as a CTC model"):
        load_model(f"transformers:{copied}")


def test_a_name_on_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    asked = []

    def info(self: Any, name: str, *, timeout: float) -> Any:
        asked.append((name, timeout))
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ModelError, match="'team/model' .*not in the hub's cache, and the hub cannot give it .*no route"
    ):
        load_model("transformers:team/model")
    # Once, and for seconds.
    assert len(asked) == 1 and asked[0][1] <= 10
    with pytest.raises(ModelError, match="is not there; give the folder"):
        load_model(f"transformers:{tmp_path / 'none'}")


@given(st.integers(1, 2000), st.integers(-1500, 4000))
@settings(max_examples=60, deadline=None)
def test_a_law_is_measured_exactly(shift: int, needed: int) -> None:
    def count(num_samples: int) -> int:
        return max(0, 1 + (num_samples - needed) // shift)

    law = measured_law(count, 16000)
    assert law.shift == shift
    for num_samples in (1, 400, 4000, 16001, 123_457):
        assert law.num_frames(num_samples) == count(num_samples)
    # The same padding at both ends: the first frame is as far from the beginning as the last one from the end of what just makes it.
    begin, length = law.cell
    assert abs(begin + length / 2 - needed) <= 1


@pytest.mark.parametrize(
    "count",
    [lambda n: 1500, lambda n: n // 320 + n // 5000, lambda n: 0, lambda n: 2 * (n // 320)],
    ids=["fixed", "uneven", "none", "two at once"],
)
def test_frames_without_a_law_are_told(count: Callable[[int], int]) -> None:
    with pytest.raises(NoFrameLaw):
        measured_law(count, 16000)
