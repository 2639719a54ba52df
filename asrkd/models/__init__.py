"""Reference acoustic models: `logits, lengths = model(features, feature_lengths)`."""

from asrkd.models.blstm import BLSTMTeacher
from asrkd.models.build import build_model, check_model, checkpoint_args, count_parameters
from asrkd.models.chunked import Chunked
from asrkd.models.conformer import ConformerTeacher
from asrkd.models.emformer import EmformerStudent
from asrkd.models.int8 import int8_bytes, quantized_parameters, rounded_weights, to_int8
from asrkd.models.lstm import LSTMStudent
from asrkd.models.pretrained import Pretrained
from asrkd.models.streaming import FeatureStream, StreamingModel, StreamLayout, StreamState, stream_layout, valid_rows
from asrkd.models.study import study_student, study_teacher
from asrkd.models.tdnn import TDNNStudent
from asrkd.models.whisper_student import WhisperStudent

__all__ = [
    "BLSTMTeacher",
    "Chunked",
    "ConformerTeacher",
    "EmformerStudent",
    "FeatureStream",
    "LSTMStudent",
    "Pretrained",
    "StreamLayout",
    "StreamState",
    "StreamingModel",
    "TDNNStudent",
    "WhisperStudent",
    "build_model",
    "check_model",
    "checkpoint_args",
    "count_parameters",
    "int8_bytes",
    "quantized_parameters",
    "rounded_weights",
    "stream_layout",
    "study_student",
    "study_teacher",
    "to_int8",
    "valid_rows",
]
