"""Audio and cuts in, features out."""
