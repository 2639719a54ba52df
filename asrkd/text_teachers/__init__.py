"""Text teachers: models that write what is said (Whisper and others) and give no posteriors of frames, by spec string."""

from asrkd.text_teachers.load import TEXT_KINDS, is_text_spec, load_text_teacher, settings_file
from asrkd.text_teachers.teacher import TextTeacher, Transcription, Word, WrittenText

__all__ = [
    "TEXT_KINDS",
    "WrittenText",
    "TextTeacher",
    "Transcription",
    "Word",
    "is_text_spec",
    "load_text_teacher",
    "settings_file",
]
