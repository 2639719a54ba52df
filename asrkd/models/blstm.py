"""The teacher of the study: a bidirectional LSTM."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class BLSTMTeacher(nn.Module):
    """Bidirectional LSTM, (N, T, input_dim) -> (N, T, num_classes); padding does not reach the output.

    The default is the study's teacher: 5 x 768 in each direction (Parthasarathi & Ström 2019, section 4).
    """

    def __init__(
        self, input_dim: int, num_classes: int, hidden_dim: int = 768, num_layers: int = 5, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            input_dim,
            hidden_dim,
            num_layers,
            batch_first=True,
            dropout=dropout if num_layers > 1 else 0.0,
            bidirectional=True,
        )
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(2 * hidden_dim, num_classes)

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, F), (N,) -> logits (N, T, V), (N,). An utterance without frames gets none."""
        packed = pack_padded_sequence(
            features, feature_lengths.cpu().clamp(min=1), batch_first=True, enforce_sorted=False
        )
        outputs, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=features.shape[1])
        return self.output(self.dropout(outputs)), feature_lengths
