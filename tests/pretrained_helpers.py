"""Small encoders of transformers with random weights, and trainings that begin with them, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from training_helpers import settings

from asrkd.corpus.waveform import front_end_from_dict
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store
from asrkd.training.config import TrainConfig

# By family, what its training reads and how many of its frames are one of the encoder's.
READS: dict[str, tuple[dict[str, Any], int]] = {
    "whisper": ({"preset": "whisper"}, 2),
    "wav2vec2": ({"kind": "waveform", "sampling_rate": 16000, "normalize": True}, 1),
}
_WHISPER = {
    "d_model": 16, "encoder_layers": 3, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32, "decoder_ffn_dim": 16, "max_source_positions": 100, "max_target_positions": 8, "vocab_size": 12,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip
_SAMPLES = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32, "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip


def save_encoder(folder: Path, family: str, **changes: Any) -> Path:
    """As the family's own classes save it; larger weights than transformers draws, so that a difference would be seen."""
    torch.manual_seed(0)
    config = transformers.CONFIG_MAPPING[family](**(_WHISPER if family == "whisper" else _SAMPLES) | changes)
    model = transformers.AutoModel.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    if family != "whisper":
        stable = config.feat_extract_norm == "layer" if hasattr(config, "feat_extract_norm") else True
        transformers.Wav2Vec2FeatureExtractor(return_attention_mask=stable).save_pretrained(folder)
    return folder


def stored(corpus: Path, name: str, family: str) -> Path:
    """The store of transcripts of a corpus for a training of this family, made where it is not there."""
    folder = corpus / f"stores/{name}-{family}"
    if not folder.exists():
        front_end = front_end_from_dict(READS[family][0])
        plan(str(corpus / f"{name}.jsonl.gz"), str(folder), embed="audio", unit_hours=0.003, front_end=front_end)
        run(Local(Store.open(str(folder))))
    return folder


def pretrained_settings(corpus: Path, run: Path, family: str, encoder: Path, **changes: Any) -> TrainConfig:
    """Of a training from an encoder; `args` and `optimizer` are added to."""
    front_end, factor = READS[family]
    store = str(stored(corpus, "labeled", family))
    given: dict[str, Any] = {
        "model": {
            "factory": "asrkd.models:Pretrained",
            "args": {"name": str(encoder), **changes.pop("args", {})},
            "subsampling_factor": factor,
        },
        "front_end": front_end,
        "inventory": {"lexicon": str(corpus / "lexicon.txt"), "topology": "ctc"},
        "sources": {"labeled": {"store": store}},
        "schedule": [{"steps": 6, "mixture": {"labeled": 1}}],
        "optimizer": {"learning_rate": 0.01, "warmup_steps": 2, **changes.pop("optimizer", {})},
        "augment": {"gain_db": 3.0},
        "batch": {"max_frames": 1000, "max_utterances": 4},
        "dev": store,
        "eval_steps": 3,
    }
    return settings(corpus, run, **(given | changes))
