"""The names that `asrkd.acoustic` had while only teachers were loaded, for scripts of that time; nothing in the library uses them."""

from asrkd.acoustic import AcousticModel as Teacher
from asrkd.acoustic import load_model as load_teacher

__all__ = ["Teacher", "load_teacher"]
