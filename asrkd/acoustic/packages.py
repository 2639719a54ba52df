"""CTC models that only their own package can build (NeMo, FunASR): its features and its network, measured and named here."""

from __future__ import annotations

import contextlib
import io
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asrkd import fingerprint
from asrkd.acoustic.measured_frames import NoFrameLaw, measured_law
from asrkd.acoustic.model import AcousticModel, identity
from asrkd.acoustic.token_classes import classes_of
from asrkd.corpus.waveform import Waveform
from asrkd.errors import AsrkdError, ModelError, one_line


@dataclass(frozen=True)
class Packaged:
    """A model of a package.

    Attributes:
        module: the whole of it, whose weights its fingerprint is over.
        features: (num_samples,) of one utterance -> its features (T, F), and how many of them count; the package's, so that no padding can change them.
        run: features of a batch (N, T, F) padded with zeros and lengths (N,) -> logits (N, T', V) and lengths (N,).
        sampling_rate: hertz.
        labels: the token of each class.
        blank: which of them is the blank.
        code: plain values, what else its output depends on.
    """

    module: torch.nn.Module
    features: Callable[[Tensor], tuple[Tensor, int]]
    run: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    sampling_rate: int
    labels: Sequence[str]
    blank: int
    code: Any


def packaged(spec: str, device: str, model: Packaged) -> AcousticModel:
    """The model as a teacher, with its frame law measured.

    Raises:
        ModelError: it cannot read noise, its frames follow no frame law, or its classes are not its tokens.
    """
    name = type(model.module).__name__
    network = _OfSamples(model)
    try:
        with quiet():
            law = measured_law(network.num_frames, model.sampling_rate)
            num_classes = network.num_classes()
    except NoFrameLaw as error:
        raise ModelError(
            f"model {spec!r}: the frames of {name} follow no frame law ({error}); give a model that takes utterances of any length"
        ) from None
    except AsrkdError:
        raise
    except Exception as error:  # whatever a package raises
        raise ModelError(
            f"model {spec!r}: {name} cannot read what its front end makes of noise ({one_line(error)[:300]})"
        ) from None
    if num_classes != len(model.labels):
        raise ModelError(
            f"model {spec!r} gives {num_classes} classes, but has {len(model.labels)} tokens; give the tokens that it was trained with"
        )
    inventory, order = classes_of(spec, model.labels, model.blank)
    front_end = Waveform(model.sampling_rate, law.window, law.shift, begin=law.begin, needed=law.needed)
    network.frames_of, network.order = law.num_frames, torch.tensor(order, device=device)
    weights = fingerprint.of_state_dict(model.module.state_dict())
    identified = identity(weights, [name, model.code], front_end, inventory, 1)
    return AcousticModel(network, front_end, inventory, 1, spec, identified, device)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what a package prints and logs below an error, and with the caller's random numbers as they were."""
    logged, states = logging.root.manager.disable, (random.getstate(), np.random.get_state())
    logging.disable(logging.WARNING)
    try:
        with torch.random.fork_rng(), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logged)
        random.setstate(states[0])
        np.random.set_state(states[1])


class _OfSamples:
    """(N, S, 1) samples, (N,) -> (N, T, V) logits in the order of the inventory, (N,)."""

    frames_of: Callable[[int], int]
    order: Tensor

    def __init__(self, model: Packaged) -> None:
        self._model = model

    def outputs(self, samples: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
        """(N, T', V) and the frames of each, by the package."""
        made = [self._model.features(one) for one in samples]
        joined = pad_sequence([rows for rows, _ in made], batch_first=True)
        logits, lengths = self._model.run(joined, torch.tensor([count for _, count in made], device=joined.device))
        return logits, lengths.tolist()

    def num_frames(self, num_samples: int) -> int:
        """Frames of `num_samples` samples of noise."""
        return self._of_noise(num_samples)[1][0]

    def num_classes(self) -> int:
        """Classes of the package's output."""
        return int(self._of_noise(self._model.sampling_rate)[0].shape[-1])

    @torch.no_grad()
    def _of_noise(self, num_samples: int) -> tuple[Tensor, list[int]]:
        return self.outputs([0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(0))])

    def __call__(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        samples = [row[:length, 0] for row, length in zip(features, lengths.tolist(), strict=True)]
        logits, found = self.outputs(samples)
        frames = [self.frames_of(len(one)) for one in samples]
        if found != frames:
            raise ValueError(f"{found} frames, where the frame law, measured on other lengths, makes {frames}")
        return logits[:, : max(frames)].index_select(-1, self.order), torch.tensor(frames, device=lengths.device)
