"""Feature extractors of `transformers`: utterances as the keyword arguments of a model, alone or in a batch."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from asrkd.acoustic.measured_frames import NoFrameLaw

# What models call the mask of what is not padding.
_MASKS = ("attention_mask", "padding_mask")


class Extractor:
    """What a feature extractor makes of samples, and how utterances of unequal lengths are joined.

    Each utterance goes through the extractor alone, so no padding can change its features; then whatever grows with the length is padded.

    Attributes:
        sampling_rate: hertz.
        normalize: None for an extractor that computes features. Otherwise the model reads the samples themselves: as they are (False) or with
            zero mean and a deviation of one (True, `Waveform.normalize`), and the extractor is not asked.
    """

    def __init__(self, extractor: Any, model: Any) -> None:
        """Raises `NoFrameLaw` for an extractor that makes the same of any length, and whatever the extractor raises."""
        self._extractor = extractor
        self.sampling_rate = int(extractor.sampling_rate)
        parameters = inspect.signature(model.forward).parameters
        self._accepted = set(parameters)
        noise = 0.1 * torch.randn(self.sampling_rate, generator=torch.Generator().manual_seed(0))
        short, long = self._alone(noise[: self.sampling_rate // 2]), self._alone(noise)
        self._axes = {key: _growing(short[key], long[key]) for key in short}
        self._main = next((key for key in extractor.model_input_names if self._axes.get(key) is not None), "")
        required = [
            name for name, one in parameters.items() if one.default is one.empty and one.kind != one.VAR_KEYWORD
        ]
        if not short or not set(required) <= set(short):
            raise TypeError(
                f"it makes {', '.join(extractor.model_input_names)}, but the model reads {', '.join(list(parameters)[:2])}"
            )
        if not self._main:
            raise NoFrameLaw("its feature extractor makes as many frames of half a second as of a whole one")
        self._mask = next((key for key in _MASKS if key in short), "")
        self._mask_forced = self._mask or next((key for key in _MASKS if key in parameters), "")
        self._padding = float(getattr(extractor, "padding_value", 0.0))
        self.normalize = _normalizes(long[self._main], short[self._main], noise)

    def arguments(self, samples: Tensor) -> dict[str, Tensor]:
        """(num_samples,) of one utterance -> keyword arguments of the model for a batch of one, as the extractor makes them."""
        if self.normalize is None:
            return self._alone(samples)
        row = {self._main: samples[None]}
        if self._mask:
            row[self._mask] = torch.ones(1, len(samples), dtype=torch.long, device=samples.device)
        return row

    def joined(self, rows: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """What `arguments` makes of utterances, one or more, as that of a batch: with a mask wherever the model takes one."""
        if len(rows) == 1:
            return rows[0]
        if self._mask_forced and self._mask_forced not in rows[0]:
            axis = self._axes[self._main] or 1
            rows = [
                row | {self._mask_forced: torch.ones(1, row[self._main].shape[axis], dtype=torch.long)} for row in rows
            ]
        return {key: self._padded(key, [row[key] for row in rows]) for key in rows[0]}

    def mask(self, arguments: dict[str, Tensor]) -> Tensor | None:
        """The mask of one utterance, where its extractor makes one."""
        return arguments.get(self._mask)

    def settings(self) -> dict[str, Any]:
        """Plain values, for a fingerprint."""
        values: dict[str, Any] = self._extractor.to_dict()
        return {
            key: repr(value) if not isinstance(value, (str, int, float)) else value for key, value in values.items()
        }

    def _alone(self, samples: Tensor) -> dict[str, Tensor]:
        made = self._extractor(samples.cpu().numpy(), sampling_rate=self.sampling_rate, return_tensors="pt")
        return {key: value for key, value in made.items() if key in self._accepted and isinstance(value, Tensor)}

    def _padded(self, key: str, rows: list[Tensor]) -> Tensor:
        axis = self._axes.get(key, 1 if key == self._mask_forced else None)
        if axis is None:
            return torch.cat(rows)
        longest = max(row.shape[axis] for row in rows)
        padded = []
        for row in rows:
            # Pairs of (before, behind), the last axis first.
            padding = [0, 0] * (row.dim() - axis - 1) + [0, longest - row.shape[axis]]
            value = self._padding if key == self._main else 0
            padded.append(torch.nn.functional.pad(row, padding, value=value))
        return torch.cat(padded)


def _growing(short: Tensor, long: Tensor) -> int | None:
    """The axis along which an utterance is longer."""
    axes = [axis for axis in range(1, short.dim()) if short.shape[axis] != long.shape[axis]]
    return axes[0] if axes else None


def _normalizes(long: Tensor, short: Tensor, noise: Tensor) -> bool | None:
    """What an extractor does to samples: nothing, zero mean and unit variance as `Waveform` does it, or None for something else."""
    if long.shape != (1, len(noise)) or not long.is_floating_point():
        return None
    if torch.equal(long[0], noise) and torch.equal(short[0], noise[: short.shape[1]]):
        return False
    expected = (noise - noise.mean()) / torch.sqrt(noise.var(unbiased=False) + 1e-7)
    return True if torch.allclose(long[0], expected, atol=1e-5, rtol=0) else None
