"""Labeling: plan, run, commit."""
