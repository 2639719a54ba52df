"""What a text teacher wrote: the tokens of its best hypotheses with their log-probabilities, and the texts that they spell.

`tokens:N`: up to N hypotheses of an utterance, the best first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from asrkd.errors import ConfigError, StoreError
from asrkd.targets.streams import TOKENS, Columns

_IDS, _LOG_PROBS, _COUNTS, _SCORES, _TEXTS = (
    "token_ids",
    "token_log_probs",
    "token_counts",
    "token_scores",
    "token_texts",
)
# Decimals of a log-probability: what other kernels change is behind them.
_DECIMALS = 4


@dataclass(frozen=True)
class WrittenTokens:
    """One hypothesis as it is stored.

    Attributes:
        ids: (L,) tokens of the teacher's vocabulary.
        log_probs: (L,) of each; NaN where not known.
        score: log-probability of the whole; NaN where not known.
        text: normalized; one line.
    """

    ids: Sequence[int]
    log_probs: Sequence[float]
    score: float
    text: str


@dataclass(frozen=True)
class TokenTargets:
    """The hypotheses of U utterances, H in all, one after another; those of an utterance the best first.

    Attributes:
        ids: (T,) int64 tokens of the teacher's vocabulary, of all hypotheses.
        log_probs: (T,) float32 log-probability of each token, NaN where not known.
        counts: (H,) int64 tokens of each hypothesis.
        scores: (H,) float32 log-probability of each hypothesis, NaN where not known.
        text: (B,) uint8, their texts in UTF-8.
        text_bytes: (H,) int64 bytes of each text.
        hypotheses: (U,) int64 hypotheses of each utterance.
    """

    ids: Tensor
    log_probs: Tensor
    counts: Tensor
    scores: Tensor
    text: Tensor
    text_bytes: Tensor
    hypotheses: Tensor
    num_frames: ClassVar[None] = None

    @classmethod
    def cat(cls, parts: Sequence[TokenTargets]) -> TokenTargets:
        """The utterances of all parts, one after another; at least one part."""
        return cls(*(torch.cat(some) for some in zip(*(vars(part).values() for part in parts), strict=True)))

    def frames(self, places: Tensor) -> TokenTargets:
        """The same: texts are not counted in frames."""
        return self

    def map(self, change: Callable[[Tensor], Tensor]) -> TokenTargets:
        """With every tensor changed, e.g. moved to a device."""
        return TokenTargets(*(change(one) for one in vars(self).values()))

    def texts(self) -> list[list[str]]:
        """The normalized texts of each utterance's hypotheses."""
        data, lines, start = bytes(self.text.cpu().numpy()), [], 0
        for size in self.text_bytes.tolist():
            lines.append(data[start : start + size].decode())
            start += size
        ends = np.cumsum(self.hypotheses.cpu().numpy())
        return [lines[end - count : end] for end, count in zip(ends, self.hypotheses.tolist(), strict=True)]

    def scores_of_each(self) -> list[Tensor]:
        """For each utterance (n,) the log-probabilities of its hypotheses."""
        return list(self.scores.split(self.hypotheses.tolist()))


@dataclass(frozen=True)
class TokenLists:
    """Up to N hypotheses of an utterance; also its own layout."""

    most: int
    stream: ClassVar[str] = TOKENS
    form: ClassVar[str] = "tokens:N"
    arguments: ClassVar[tuple[type[int] | type[float], ...]] = (int,)
    by_frame: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ConfigError(f"N of {self.form!r} is {self.most}, but must be at least 1")

    @property
    def spec(self) -> str:
        return f"tokens:{self.most}"

    def layout(self, num_classes: int) -> TokenLists:
        return self

    @property
    def columns(self) -> dict[str, np.dtype]:
        return {
            _IDS: np.dtype(np.int32),
            _LOG_PROBS: np.dtype(np.float32),
            _COUNTS: np.dtype(np.int32),
            _SCORES: np.dtype(np.float32),
            _TEXTS: np.dtype(np.uint8),
        }

    def pack(self, encoded: Sequence[WrittenTokens]) -> dict[str, Any]:
        kept = encoded[: self.most]
        return {
            _IDS: np.array([token for one in kept for token in one.ids], np.int32),
            _LOG_PROBS: _rounded([value for one in kept for value in one.log_probs]),
            _COUNTS: np.array([len(one.ids) for one in kept], np.int32),
            _SCORES: _rounded([one.score for one in kept]),
            _TEXTS: "\n".join(one.text for one in kept).encode(),
        }

    def join(self, rows: Sequence[Columns], num_frames: Sequence[int]) -> dict[str, Tensor]:
        lines = [_checked(row, self.most) for row in rows]
        found = {
            name: torch.from_numpy(np.concatenate([np.zeros(0, kind), *(np.asarray(row[name], kind) for row in rows)]))
            for name, kind in self.columns.items()
            if name != _TEXTS
        }
        data = b"".join(line for row in lines for line in row)
        return found | {
            _TEXTS: torch.from_numpy(np.frombuffer(bytearray(data), np.uint8)),
            "text_bytes": torch.tensor([len(line) for row in lines for line in row], dtype=torch.int64),
            "hypotheses": torch.tensor([len(row) for row in lines], dtype=torch.int64),
        }

    def unpack(self, columns: Mapping[str, Tensor], num_frames: Tensor) -> TokenTargets:
        return TokenTargets(
            columns[_IDS].long(),
            columns[_LOG_PROBS].float(),
            columns[_COUNTS].long(),
            columns[_SCORES].float(),
            columns[_TEXTS],
            columns["text_bytes"],
            columns["hypotheses"],
        )


def _rounded(values: Sequence[float]) -> np.ndarray:
    return np.round(np.array(values, np.float64), _DECIMALS).astype(np.float32)


def _checked(row: Columns, most: int) -> list[bytes]:
    """The texts of a row whose columns belong together."""
    missing = [name for name in (_IDS, _LOG_PROBS, _COUNTS, _SCORES, _TEXTS) if row.get(name) is None]
    if missing:
        raise StoreError(f"column {missing[0]!r} is missing where there are tokens; the shard is damaged")
    counts, lines = np.asarray(row[_COUNTS]), bytes(row[_TEXTS]).split(b"\n")
    tokens = int(counts.sum())
    if (counts < 0).any() or tokens != len(row[_IDS]) or tokens != len(row[_LOG_PROBS]):
        raise StoreError(
            f"column {_IDS!r} has {len(row[_IDS])} tokens and {_LOG_PROBS!r} {len(row[_LOG_PROBS])}, where {_COUNTS!r} says {tokens}; the shard is "
            "damaged"
        )
    if not 1 <= len(counts) <= most or len(counts) != len(lines) or len(counts) != len(row[_SCORES]):
        raise StoreError(
            f"column {_COUNTS!r} is of {len(counts)} hypotheses, {_TEXTS!r} of {len(lines)} and {_SCORES!r} of {len(row[_SCORES])}, of at most {most}; "
            "the shard is damaged"
        )
    try:
        for line in lines:
            line.decode()
    except UnicodeDecodeError as error:
        raise StoreError(f"column {_TEXTS!r} is not UTF-8 ({error.reason}); the shard is damaged") from None
    return lines
