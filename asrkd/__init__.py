"""asrkd: teacher-student training for speech recognition from stored soft targets."""

__version__ = "0.1.0"
