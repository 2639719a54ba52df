"""Acoustic models: teachers and students of any kind, by spec string, from features to posteriors and scores of frames."""

from asrkd.acoustic.load import KINDS, load_model
from asrkd.acoustic.model import AcousticModel, ModelFailure, is_out_of_memory
from asrkd.acoustic.probe import as_planned
from asrkd.acoustic.trained import TrainedModel

__all__ = ["KINDS", "AcousticModel", "ModelFailure", "TrainedModel", "as_planned", "is_out_of_memory", "load_model"]
