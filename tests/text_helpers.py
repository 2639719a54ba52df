"""Text teachers for tests: a tiny Whisper with random weights, and one of a test's own code."""

from __future__ import annotations

from pathlib import Path

import torch

LANGUAGES = {"<|en|>": 258, "<|de|>": 259}
SPECIAL = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    *LANGUAGES,
    "<|translate|>",
    "<|transcribe|>",
    "<|nospeech|>",
    "<|notimestamps|>",
]


def make_whisper(folder: Path, *, multilingual: bool = True, seed: int = 0) -> Path:
    """A folder of `transformers` with a Whisper of some thousand weights; its tokens are bytes and special ones."""
    import tokenizers
    import transformers
    from tokenizers.pre_tokenizers import ByteLevel

    vocabulary = {symbol: number for number, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    model = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    model.pre_tokenizer, model.decoder = ByteLevel(add_prefix_space=False), tokenizers.decoders.ByteLevel()
    model.add_special_tokens(SPECIAL)
    transformers.PreTrainedTokenizerFast(tokenizer_object=model, eos_token=SPECIAL[0]).save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    settings = transformers.WhisperConfig(
        vocab_size=264, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, max_target_positions=24, pad_token_id=256, bos_token_id=256, eos_token_id=256,
        decoder_start_token_id=257, suppress_tokens=[], begin_suppress_tokens=[256], init_std=0.5,
    )  # fmt: skip
    torch.manual_seed(seed)
    whisper = transformers.WhisperForConditionalGeneration(settings)
    config = whisper.generation_config
    config.is_multilingual, config.no_timestamps_token_id = multilingual, 263
    config._from_model_config = False
    config.alignment_heads = [[0, 0]]
    if multilingual:
        config.lang_to_id, config.task_to_id = LANGUAGES, {"translate": 260, "transcribe": 261}
    config.max_length = 24
    whisper.save_pretrained(folder)
    return folder


# A module with a teacher that writes how many samples it was given; `crash` fails on those of a length.
PYTHON = """
import math, os, time
import numpy as np
from asrkd.text_teachers import WrittenText, TextTeacher, Transcription, Word

def counted(samples, sleep=0.0, fails=lambda count: False):
    time.sleep(sleep)
    if any(fails(len(one)) for one in samples):
        raise RuntimeError("no text today")
    found = []
    for one in samples:
        words = str(len(one))
        text = "Um, " + " ".join(words) + "!"
        level = float(np.abs(one).mean())
        hypotheses = [WrittenText(text, [int(w) for w in words], [-level] * len(words)), WrittenText("Eh?", [1], [-2.0])]
        found.append(Transcription(hypotheses, [Word("Um", 0.0, 0.2)], no_speech=0.1, language="en", language_probability=0.9))
    return found

def teacher():
    return TextTeacher(counted, "f" * 32, batch_size=3)

def slow():
    return TextTeacher(lambda samples: counted(samples, 0.3), "f" * 32, batch_size=2)

def picky():
    return TextTeacher(lambda samples: counted(samples, fails=lambda count: count % 2 == 1), "f" * 32, batch_size=4)

def broken():
    return TextTeacher(lambda samples: counted(samples, fails=lambda count: True), "f" * 32)

def short():
    return TextTeacher(counted, "f" * 32, max_seconds=1.2)

def wrong():
    return TextTeacher(lambda samples: [Transcription([]) for _ in samples], "f" * 32)

def fewer():
    return TextTeacher(lambda samples: [], "f" * 32)

def nothing():
    return 3
"""
