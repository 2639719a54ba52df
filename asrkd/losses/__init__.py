"""Losses of a student: against soft targets, an alignment or a transcript."""

from asrkd.losses.hard import ctc_loss, frame_cross_entropy
from asrkd.losses.soft import POLICIES, soft_cross_entropy, soft_kl

__all__ = ["POLICIES", "ctc_loss", "frame_cross_entropy", "soft_cross_entropy", "soft_kl"]
