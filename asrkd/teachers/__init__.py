"""Teachers: any model to frame posteriors, by spec string."""

from asrkd.teachers.load import load_teacher
from asrkd.teachers.teacher import Teacher

__all__ = ["Teacher", "load_teacher"]
