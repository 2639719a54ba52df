"""The whole study on synthetic speech, offline: a corpus from eSpeak NG and what runs on it."""
