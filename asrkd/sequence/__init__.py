"""Sequence training with k2: imports torch, numpy, k2 and `asrkd.errors` alone, so that it also runs on Python 3.10 with k2 1.23.4."""
