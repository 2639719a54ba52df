"""Reference acoustic models: `logits, lengths = model(features, feature_lengths)`."""

from asrkd.models.blstm import BLSTMTeacher
from asrkd.models.build import build_model, check_model, count_parameters
from asrkd.models.lstm import LSTMState, LSTMStudent

__all__ = ["BLSTMTeacher", "LSTMState", "LSTMStudent", "build_model", "check_model", "count_parameters"]
