"""Transcription: recordings of any length to words with times, in memory that does not grow with them."""
