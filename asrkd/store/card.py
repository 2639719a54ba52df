"""A Hugging Face dataset card of a store, from its manifest and its index alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from asrkd.errors import StoreError
from asrkd.store.inspect import store_statistics
from asrkd.store.reader import Store
from asrkd.store.schema import shard_schema
from asrkd.targets.streams import TOKENS

# https://huggingface.co/docs/hub/datasets-cards: the categories of `size_categories`.
_SIZES = (
    (1e3, "n<1K"),
    (1e4, "1K<n<10K"),
    (1e5, "10K<n<100K"),
    (1e6, "100K<n<1M"),
    (1e7, "1M<n<10M"),
    (1e8, "10M<n<100M"),
)

_MEANINGS = {
    "id": "utterance (cut) id",
    "recording_id": "recording that the utterance is cut from",
    "start": "begin in the recording, seconds",
    "duration": "seconds",
    "sampling_rate": "hertz",
    "num_samples": "samples at that rate",
    "num_frames": "frames of the targets",
    "speaker": "speaker",
    "text": "transcript; null where untranscribed",
    "custom": "further fields of the cut, JSON",
    "audio": "16-bit FLAC, or Opus, as the Hugging Face audio struct; null where not embedded",
    "features": "features of the front end, frame after frame, float32 or on an 8-bit grid; null where not embedded",
    "alignment": "hard labels, a class id a frame; null where there are none",
    "kept_mass": "probability kept by the codec, mean over the frames",
    "entropy": "entropy of the teacher's distributions in nats, mean over the frames",
    "confidence": "probability of the teacher's best class, mean over the frames",
    "target_counts": "entries of each frame",
    "target_carried": "which entries the next frame has too, bits",
    "target_ids": "class ids of new entries, a byte plane",
    "target_codes": "values of the entries, a byte plane",
    "target_log_probs": "natural-log posteriors, frame after frame",
    "text_raw": "the teacher's text as it wrote it; `text` is normalized",
    "text_confidence": "geometric mean of the probabilities of the text's tokens; null where not known",
    "text_rate": "letters and digits of the text a second of audio",
    "text_compression": "bytes of the text over those that zlib makes of it",
    "text_repetition": "share of the text that is one block again and again",
    "text_no_speech": "probability that nothing is said; null where not known",
    "text_language": "what the teacher takes the speech for; null where not known",
    "text_flags": "what is suspicious in the text",
    "text_words": "words with begin and end in seconds, JSON; null where not known",
    "token_ids": "tokens of the n best texts, the best first, ids of the teacher's vocabulary",
    "token_log_probs": "natural-log probability of each token; NaN where not known",
    "token_counts": "tokens of each of the n best texts",
    "token_scores": "natural-log probability of each of the n best texts; NaN where not known",
    "token_texts": "the n best texts, normalized, a line each, UTF-8",
}


@dataclass(frozen=True)
class CardFacts:
    """What a store does not know of itself, and whoever shares it says.

    Attributes:
        name: the dataset's name, its heading.
        license: identifier such as `cc-by-4.0`; the audio's owner decides, so it is never guessed.
        teacher_license: the teacher's, under which its output may be used.
        languages: codes such as `ar`.
        source: where the audio is from.
        intended_use: what the dataset is for; None for what its contents are good for.
    """

    name: str
    license: str | None = None
    teacher_license: str | None = None
    languages: Sequence[str] = ()
    source: str | None = None
    intended_use: str | None = None


def card(store: Store, facts: CardFacts) -> str:
    """The text of a `README.md` for a store that is shared as a dataset.

    Raises:
        StoreError: the store has no finished shard.
    """
    if not store.units():
        raise StoreError(
            f"store {store.root!r} has no finished shard yet, so there is nothing to describe; run asrkd label run"
        )
    identity, found = store.identity, store_statistics(store)
    utterances, hours = found["utterances"], found["hours"]
    front = {
        "pretty_name": facts.name,
        **({"license": facts.license} if facts.license else {}),
        **({"language": list(facts.languages)} if facts.languages else {}),
        "task_categories": ["automatic-speech-recognition"],
        "tags": ["asrkd", "knowledge-distillation", "soft-targets"],
        "size_categories": [next((label for limit, label in _SIZES if utterances < limit), "n>100M")],
        "configs": [{"config_name": "default", "data_files": "shards/*.parquet"}],
    }
    parts = [f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n", f"# {facts.name}\n"]
    parts.append(
        f"{utterances:,} utterances, {hours:.1f} hours, {found['frames']:,} frames, in {len(store.units())} Parquet shards of the "
        f"format `asrkd/v1`.\n"
    )
    parts.append(f"## Intended use\n\n{facts.intended_use or _use(store)}\n")
    parts.append("## Licence\n\n" + "".join(f"- {line}\n" for line in _licences(store, facts)))
    if identity.inventory:
        shift = identity.frame_law.frame_shift / identity.front_end.sampling_rate * 1000
        parts.append(
            "## Soft targets\n\n"
            f"- Teacher: `{identity.teacher}`, fingerprint `{identity.teacher_fingerprint}`.\n"
            f"- Inventory: {len(identity.inventory):,} units, topology `{identity.inventory.topology_name}`, in `inventory.txt`.\n"
            f"- Codec: `{identity.posterior_codec.spec}`; one frame every {shift:g} ms.\n"
            + "".join(f"- {title}: {_quantiles(found[key])}.\n" for key, title in _STATISTICS.items() if key in found)
            + "\n```python\nfrom asrkd.store import Store\n\n"
            'store = Store.open(".")\nfor row in store.rows():\n    targets = store.targets(row)  # row_splits, ids, log_probs\n```\n'
        )
    if TOKENS in identity.streams:
        flags = ", ".join(f"{flag} {count:,}" for flag, count in found["text_flags"].items())
        figures = "".join(f"- {title}: {_quantiles(found[key])}.\n" for key, title in _TEXT.items() if key in found)
        parts.append(
            f"## Texts\n\n- Text teacher: `{identity.teacher}`, fingerprint `{identity.teacher_fingerprint}`.\n{figures}"
            f"- Flagged texts: {flags or 'none'}.\n"
        )
    settings = "".join(f"- `{key}`: {value}\n" for key, value in identity.front_end.to_dict().items())
    parts.append(f"## Front end\n\n{settings}")
    rows = [f"| `{field.name}` | `{field.type}` | {_meaning(field.name)} |\n" for field in shard_schema(identity)]
    parts.append("## Columns\n\n| column | type | meaning |\n| --- | --- | --- |\n" + "".join(rows))
    parts.append(
        "## Reading\n\n```python\nfrom datasets import load_dataset\n\n"
        'dataset = load_dataset("parquet", data_files="shards/*.parquet")\n```\n\n'
        "The same files open in pandas (`pandas.read_parquet`) and DuckDB (`SELECT * FROM 'shards/*.parquet'`).\n"
    )
    return "\n".join(parts)


def _use(store: Store) -> str:
    if not store.identity.teacher:
        return "Training and evaluation of speech recognition: audio with transcripts."
    return (
        f"Training of speech recognition models from a teacher's {'posteriors' if store.identity.inventory else 'texts'} (knowledge distillation). The targets, and any text that a teacher gave, are "
        "a model's and have its errors; they are not meant for evaluation, and not for finding out who speaks."
    )


def _licences(store: Store, facts: CardFacts) -> list[str]:
    lines = [
        f"Audio and transcripts: {f'`{facts.license}`' if facts.license else 'not stated; ask the owner of the audio'}."
    ]
    if facts.source:
        lines.append(f"Source of the audio: {facts.source}.")
    if store.identity.teacher:
        licence = f"`{facts.teacher_license}`" if facts.teacher_license else "not stated; see the teacher's own card"
        lines.append(f"Teacher, whose output the targets are: `{store.identity.teacher}`, {licence}.")
    return lines


_STATISTICS = {
    "kept_mass": "Kept probability mass of an utterance",
    "entropy": "Entropy in nats",
    "confidence": "Probability of the best class",
}


_TEXT = {
    "text_confidence": "Confidence (geometric mean of the probabilities of tokens)",
    "text_rate": "Letters and digits a second",
}


def _quantiles(values: dict[str, float]) -> str:
    return f"mean {values['mean']:.3f}, 5 % {values['p05']:.3f}, 95 % {values['p95']:.3f}"


def _meaning(column: str) -> str:
    return _MEANINGS.get(column) or _MEANINGS[column.rsplit("_", 1)[0]]
