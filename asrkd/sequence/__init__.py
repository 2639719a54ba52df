"""Sequence training and graph decoding with k2: imports torch, numpy, k2 (kaldilm to read ARPA files) and `asrkd.errors` alone, so that it
also runs on Python 3.10 with k2 1.23.4. Written for the API that k2 1.23.4 and 1.24 share.

Classes are a model's outputs, 0 to V - 1, and the labels of graphs that audio runs through; in those 0 is a class like any other. Tokens
are what a lexicon spells words with, from 1: CTC units, or the phones of an HMM. Words count from 1. On tokens and words 0 is epsilon.
"""
