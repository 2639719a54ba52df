"""Teachers: any model to frame posteriors, by spec string."""

from asrkd.teachers.load import load_teacher
from asrkd.teachers.probe import as_planned
from asrkd.teachers.teacher import ModelFailure, Teacher, is_out_of_memory

__all__ = ["ModelFailure", "Teacher", "as_planned", "is_out_of_memory", "load_teacher"]
