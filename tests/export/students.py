"""Small models with random weights, as checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from asrkd.acoustic.trained import TrainedModel
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.models import build_model

STUDENTS: dict[str, dict[str, Any]] = {
    "LSTMStudent": {"hidden_dim": 32, "num_layers": 2, "output_delay": 3},
    "ProjectedLSTM": {"hidden_dim": 32, "num_layers": 2, "output_delay": 2, "projection_dim": 16},
    "TDNNStudent": {"hidden_dim": 32, "output_delay": 3},
    "EmformerStudent": {
        "model_dim": 32,
        "num_layers": 1,
        "feedforward_dim": 32,
        "num_heads": 2,
        "left_context_length": 8,
    },
    "WhisperStudent": {
        "config": {
            "model_type": "whisper",
            "d_model": 32,
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "decoder_layers": 1,
            "decoder_attention_heads": 2,
            "decoder_ffn_dim": 16,
            "vocab_size": 12,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
        },
        "chunk_frames": 6,
        "left_frames": 8,
    },
    "ConformerTeacher": {"model_dim": 32, "num_layers": 2, "feedforward_dim": 32, "num_heads": 2, "kernel_size": 7},
}


def student(name: str, front_end: FrontEnd, inventory: Inventory, path: Path, *, log_prior: bool = False) -> str:
    """The spec of a student that is sure of its classes, which therefore change often."""
    torch.manual_seed(0)
    factory, args = f"asrkd.models:{name.replace('ProjectedLSTM', 'LSTMStudent')}", STUDENTS[name]
    network = build_model(factory, args, input_dim=front_end.feature_dim, num_classes=len(inventory))
    with torch.no_grad():
        network.output.weight *= 5
        network.output.bias[0] -= 2
    prior = torch.linspace(-1, -5, len(inventory)).log_softmax(0) if log_prior else None
    TrainedModel(network.state_dict(), factory, args, front_end, inventory, 1, prior).save(path)
    return f"checkpoint:{path}"
