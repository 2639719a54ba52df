"""Looking into a model."""

from __future__ import annotations

import pytest
import torch

from asrkd.errors import ConfigError, MismatchError
from asrkd.models import BLSTMTeacher, LSTMStudent
from asrkd.models.layer import layer_frames, tapped

SIZES = {"input_dim": 4, "num_classes": 3, "hidden_dim": 6, "num_layers": 1}


def test_a_layers_frames_are_those_that_the_logits_are_made_from() -> None:
    features, lengths = torch.randn(2, 9, 4), torch.tensor([9, 5])
    # What the BLSTM's output layer sees goes through its dropout.
    for model, name in ((BLSTMTeacher(**SIZES), "dropout"), (LSTMStudent(**SIZES, output_delay=3), "lstm")):
        model.eval()
        with tapped(model, name) as outputs:
            logits, _ = model(features, lengths)
        frames = layer_frames(outputs[-1], 2, logits.shape[1], name=name)
        assert frames.shape[:2] == (2, 9)
        torch.testing.assert_close(model.output(frames)[0], logits[0])
        before = len(outputs)
        model(features, lengths)
        assert len(outputs) == before  # nothing listens any more


def test_what_is_no_layer_of_frames_is_refused() -> None:
    with (
        pytest.raises(ConfigError, match="layer 'encoder' is not in LSTMStudent; its layers are lstm, output"),
        tapped(LSTMStudent(**SIZES), "encoder"),
    ):
        pass
    for shape in ((2, 3), (9, 2, 5), (2, 8, 5)):
        with pytest.raises(MismatchError, match=r"layer 'x' gives \(.*\) where \(2 utterances, at least 9 frames"):
            layer_frames(torch.zeros(shape), 2, 9, name="x")
