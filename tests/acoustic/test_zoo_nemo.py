"""CTC and hybrid models of NeMo with random weights, compared with NeMo alone, one utterance at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from asrkd.acoustic import load_model
from asrkd.errors import ModelError

asr = pytest.importorskip("nemo.collections.asr", reason="needs NeMo (pip install 'nemo-toolkit[asr]')")

LENGTHS = (12800, 7123, 23457, 9999)
TOKENS = [" ", "a", "b", "c"]
MELS = 80


def config(*, with_ctc: bool = True, with_rnnt: bool = False) -> dict[str, Any]:
    """A FastConformer of two small layers, with the parts of NeMo's own recipes."""
    modules = "nemo.collections.asr.modules."
    ctc = {"_target_": modules + "ConvASRDecoder", "feat_in": None, "num_classes": len(TOKENS), "vocabulary": TOKENS}
    values: dict[str, Any] = {
        "sample_rate": 16000,
        "labels": TOKENS,
        "preprocessor": {"_target_": modules + "AudioToMelSpectrogramPreprocessor", "sample_rate": 16000, "normalize": "per_feature", "window_size": 0.025, "window_stride": 0.01, "features": MELS, "n_fft": 512, "dither": 1e-5, "pad_to": 16},
        "encoder": {"_target_": modules + "ConformerEncoder", "feat_in": MELS, "feat_out": -1, "n_layers": 2, "d_model": 32, "subsampling": "dw_striding", "subsampling_factor": 8, "subsampling_conv_channels": 8, "n_heads": 2, "conv_kernel_size": 5, "ff_expansion_factor": 2},
    }  # fmt: skip
    if not with_rnnt:
        return values | {"decoder": ctc}
    values |= {
        "model_defaults": {"enc_hidden": 32, "pred_hidden": 16, "joint_hidden": 16},
        "decoder": {"_target_": modules + "RNNTDecoder", "normalization_mode": None, "blank_as_pad": True, "prednet": {"pred_hidden": 16, "pred_rnn_layers": 1}, "vocab_size": len(TOKENS)},
        "joint": {"_target_": modules + "RNNTJoint", "log_softmax": None, "fuse_loss_wer": False, "jointnet": {"joint_hidden": 16, "activation": "relu", "encoder_hidden": 32, "pred_hidden": 16}, "num_classes": len(TOKENS), "vocabulary": TOKENS},
        "decoding": {"strategy": "greedy_batch", "greedy": {"max_symbols": 5}},
        "loss": {"loss_name": "default"},
    }  # fmt: skip
    return values | ({"aux_ctc": {"ctc_loss_weight": 0.3, "decoder": ctc}} if with_ctc else {})


def save(path: Path, kind: str, values: dict[str, Any]) -> Any:
    """A model of random weights, saved by NeMo."""
    from omegaconf import OmegaConf

    torch.manual_seed(0)
    model = getattr(asr.models, kind)(OmegaConf.create(values)).eval()
    model.save_to(str(path))
    return model


@pytest.mark.parametrize(("kind", "with_rnnt"), [("EncDecCTCModel", False), ("EncDecHybridRNNTCTCModel", True)])
def test_equal_to_nemo_alone(kind: str, with_rnnt: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.nemo"
    alone = save(path, kind, config(with_rnnt=with_rnnt))
    alone.preprocessor.featurizer.pad_to = 0  # as in NeMo's transcribe
    teacher, rng = load_model(f"nemo:{path}"), np.random.default_rng(0)
    assert teacher.inventory.units == ("<blk>", "<space>", "a", "b", "c")
    utterances = [(0.1 * rng.normal(size=length)).astype(np.float32) for length in LENGTHS]
    features = [teacher.front_end(torch.from_numpy(one)) for one in utterances]
    found, frames = teacher.log_probs(pad_sequence(features, batch_first=True), torch.tensor(LENGTHS))
    for one, row, length in zip(utterances, found, frames.tolist(), strict=True):
        with torch.no_grad():
            output = alone(input_signal=torch.from_numpy(one)[None], input_signal_length=torch.tensor([len(one)]))
            expected = alone.ctc_decoder(encoder_output=output[0])[0] if with_rnnt else output[0][0]
        expected = expected[: int(output[1][0])][:, [len(TOKENS), *range(len(TOKENS))]]
        print(f"{kind}: {length} frames, largest difference {float((row[:length] - expected).abs().max()):.2g}")
        assert length == len(expected) and float(expected.std(0).mean()) > 1e-3
        torch.testing.assert_close(row[:length], expected, atol=1e-4, rtol=0)


def test_models_that_cannot_be_teachers(tmp_path: Path) -> None:
    path = tmp_path / "model.nemo"
    save(path, "EncDecRNNTModel", config(with_ctc=False, with_rnnt=True))
    with pytest.raises(ModelError, match="EncDecRNNTModel has no CTC head"):
        load_model(f"nemo:{path}")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be restored by NeMo") as raised:
        load_model(f"nemo:{path}")
    assert "\n" not in str(raised.value)
    with pytest.raises(ModelError, match="is not a file; give the .nemo file"):
        load_model(f"nemo:{tmp_path / 'other.nemo'}")
