"""Losses of a student: against soft targets, hard labels, or what layers of the teacher give. Each is a function of tensors."""

from asrkd.losses.delay_window import delay_window_cross_entropy
from asrkd.losses.features import codebook_cross_entropy, feature_cosine, feature_mse
from asrkd.losses.frames import around_labels, best_path, delayed, top_classes
from asrkd.losses.hard import ctc_loss, frame_cross_entropy
from asrkd.losses.mutual import mutual_kl
from asrkd.losses.relations import attention_kl, attention_transfer, frame_similarity, utterance_similarity
from asrkd.losses.soft import POLICIES, soft_cross_entropy, soft_kl

__all__ = [
    "POLICIES",
    "around_labels",
    "attention_kl",
    "attention_transfer",
    "best_path",
    "codebook_cross_entropy",
    "ctc_loss",
    "delay_window_cross_entropy",
    "delayed",
    "feature_cosine",
    "feature_mse",
    "frame_cross_entropy",
    "frame_similarity",
    "mutual_kl",
    "soft_cross_entropy",
    "soft_kl",
    "top_classes",
    "utterance_similarity",
]
