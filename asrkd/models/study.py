"""The shapes of the million-hour study, by name (Parthasarathi & Ström 2019, https://arxiv.org/abs/1904.01624)."""

from __future__ import annotations

from asrkd.models.blstm import BLSTMTeacher
from asrkd.models.lstm import LSTMStudent


def study_student(input_dim: int = 192, num_classes: int = 3183, output_delay: int = 3) -> LSTMStudent:
    """The study's student: 192 inputs (64 log-mel x 3 frames), 5 x 768 LSTM, 3,183 senones."""
    return LSTMStudent(input_dim, num_classes, hidden_dim=768, num_layers=5, output_delay=output_delay)


def study_teacher(input_dim: int = 192, num_classes: int = 3183) -> BLSTMTeacher:
    """The study's teacher: 5 x 768 BLSTM over the same inputs and senones."""
    return BLSTMTeacher(input_dim, num_classes, hidden_dim=768, num_layers=5)
