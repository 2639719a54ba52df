"""CTC models of FunASR with random weights, compared with FunASR alone, one utterance at a time."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asrkd.acoustic import load_model
from asrkd.errors import ModelError

yaml = pytest.importorskip("yaml")
pytest.importorskip("funasr", reason="needs FunASR (pip install funasr)")

LENGTHS = (12800, 7123, 23457, 9999)
TOKENS = ["<blank>", "<s>", "</s>", "a", "b", "c", "<space>", "<unk>"]
CONFORMER = {
    "model": "Conformer",
    "model_conf": {"ctc_weight": 0.3, "lsm_weight": 0.1, "length_normalized_loss": True},
    "encoder": "ConformerEncoder",
    "encoder_conf": {
        "output_size": 32,
        "attention_heads": 2,
        "linear_units": 32,
        "num_blocks": 2,
        "input_layer": "conv2d",
        "cnn_module_kernel": 5,
        "rel_pos_type": "latest",
        "pos_enc_layer_type": "rel_pos",
        "selfattention_layer_type": "rel_selfattn",
        "macaron_style": True,
        "use_cnn_module": True,
    },  # fmt: skip
    "decoder": "TransformerDecoder",
    "decoder_conf": {"attention_heads": 2, "linear_units": 32, "num_blocks": 1},
    "frontend": "WavFrontend",
    "frontend_conf": {"fs": 16000, "window": "hamming", "n_mels": 80, "lfr_m": 1, "lfr_n": 1},
    "tokenizer": "CharTokenizer",
    "tokenizer_conf": {"unk_symbol": "<unk>"},
}
SENSE_VOICE = {
    "model": "SenseVoiceSmall",
    "model_conf": {"length_normalized_loss": True},
    "encoder": "SenseVoiceEncoderSmall",
    "encoder_conf": {
        "output_size": 32,
        "attention_heads": 2,
        "linear_units": 32,
        "num_blocks": 2,
        "tp_blocks": 1,
        "kernel_size": 5,
        "sanm_shfit": 0,
        "selfattention_layer_type": "sanm",
        "input_layer": "pe",
    },  # fmt: skip
    "frontend": "WavFrontend",
    "frontend_conf": {"fs": 16000, "window": "hamming", "n_mels": 80, "lfr_m": 7, "lfr_n": 6},
    "tokenizer": "SentencepiecesTokenizer",
    "tokenizer_conf": {"unk_symbol": "<unk>"},
}


def save(folder: Path, config: dict[str, Any]) -> Path:
    """As FunASR's trainer leaves a model: config.yaml, tokens or bpe.model, and model.pt, here of random weights."""
    from funasr.register import tables

    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    if config["tokenizer"] == "CharTokenizer":
        (folder / "tokens.txt").write_text("".join(f"{token}\n" for token in TOKENS))
        size = len(TOKENS)
    else:
        sentencepiece, made, size = pytest.importorskip("sentencepiece"), io.BytesIO(), 8
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["abc ab cab"] * 9), model_writer=made, vocab_size=size, model_type="char", minloglevel=2, pad_id=3,
        )  # fmt: skip
        (folder / "bpe.model").write_bytes(made.getvalue())
    stacked = 80 * config["frontend_conf"]["lfr_m"]
    # As of FunASR's own models: the means and deviations of log-mel of samples of 16 bits.
    lines = (f"<{name}> {stacked} {stacked}\n<LearnRateCoef> 0 [ {' '.join([value] * stacked)} ]\n" for name, value in (("AddShift", "-14"), ("Rescale", "0.3")))  # fmt: skip
    (folder / "am.mvn").write_text("".join(lines))
    torch.manual_seed(0)
    parts = {key: config.get(key) for key in ("encoder", "encoder_conf", "decoder", "decoder_conf")}
    model = tables.model_classes[config["model"]](
        **config["model_conf"], **{key: value for key, value in parts.items() if value}, vocab_size=size, input_size=stacked
    )  # fmt: skip
    torch.save({"state_dict": model.state_dict(), "epoch": 1}, folder / "model.pt")
    return folder


def alone(folder: Path) -> Callable[[np.ndarray], Tensor]:
    """Log-posteriors of one utterance by FunASR."""
    from funasr.auto.auto_model import AutoModel
    from funasr.utils.load_utils import extract_fbank

    whole = AutoModel(model=str(folder), device="cpu", disable_update=True, disable_pbar=True, ncpu=1)
    model, front_end = whole.model, whole.kwargs["frontend"]
    heard: list[Tensor] = []
    log_softmax = model.ctc.log_softmax
    model.ctc.log_softmax = lambda hidden: heard.append(log_softmax(hidden)) or heard[-1]

    @torch.no_grad()
    def run(samples: np.ndarray) -> Tensor:
        if type(model).__name__ == "SenseVoiceSmall":
            whole.generate(input=samples, language="en")
            return heard.pop()[0, 4:]
        features, lengths = extract_fbank([samples], data_type="sound", frontend=front_end)
        hidden, frames = model.encode(features, lengths)
        return model.ctc.log_softmax(hidden)[0, : int(frames[0])]

    return run


@pytest.mark.parametrize(("config", "query"), [(CONFORMER, ""), (SENSE_VOICE, "?language=en")])
def test_equal_to_funasr_alone(config: dict[str, Any], query: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "model", config)
    states = torch.get_rng_state(), random.getstate()
    teacher = load_model(f"funasr:{folder}{query}")
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert teacher.inventory.units[0] == "<blk>" and len(teacher.inventory.units) == 8
    # FunASR's dither is on, also in inference; asrkd's teachers have none.
    still = config | {"frontend_conf": config["frontend_conf"] | {"dither": 0.0}}
    oracle, rng = alone(save(tmp_path / "still", still)), np.random.default_rng(0)
    utterances = [(0.1 * rng.normal(size=length)).astype(np.float32) for length in LENGTHS]
    features = [teacher.front_end(torch.from_numpy(one)) for one in utterances]
    found, frames = teacher.log_probs(pad_sequence(features, batch_first=True), torch.tensor(LENGTHS))
    for one, row, length in zip(utterances, found, frames.tolist(), strict=True):
        expected = oracle(one)
        print(
            f"{config['model']}: {length} frames, largest difference {float((row[:length] - expected).abs().max()):.2g}"
        )
        assert length == len(expected) and float(expected.std(0).mean()) > 1e-3
        torch.testing.assert_close(row[:length], expected, atol=1e-4, rtol=0)


def test_models_that_cannot_be_teachers(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", SENSE_VOICE)
    with pytest.raises(ModelError, match="language 'xx' is not one of its auto, zh, en"):
        load_model(f"funasr:{folder}?language=xx")
    torch.save({"state_dict": {}}, folder / "model.pt")
    with pytest.raises(ModelError, match="has no 'embed.weight'|has no 'encoder[^']*' of the shape"):
        load_model(f"funasr:{folder}")
    (folder / "model.pt").unlink()
    with pytest.raises(ModelError, match="has no model.pt, so it is not a model of FunASR"):
        load_model(f"funasr:{folder}")
    headless = CONFORMER | {"model_conf": {"ctc_weight": 0.0}}
    with pytest.raises(ModelError, match="Conformer of FunASR has no CTC head"):
        load_model(f"funasr:{save(tmp_path / 'headless', headless)}")
