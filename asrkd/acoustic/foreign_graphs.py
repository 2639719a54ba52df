"""Graphs and scripted modules in the layouts of other toolkits: NeMo, icefall, sherpa-onnx.

Their features are made here, from samples, and their frames are measured, so that no rule of subsampling has to be known.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asrkd import text
from asrkd.acoustic.description import description_path
from asrkd.acoustic.graph_front_ends import GraphFrontEnd, named_front_end
from asrkd.acoustic.measured_frames import NoFrameLaw, measured_law
from asrkd.acoustic.model import AcousticModel, identity
from asrkd.acoustic.token_classes import classes_of
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.sentencepiece_model import MODEL
from asrkd.corpus.token_table import read_table
from asrkd.corpus.tokenizer import Tokenizer, read_tokenizer
from asrkd.corpus.topology import BLANK
from asrkd.corpus.waveform import Waveform
from asrkd.errors import AsrkdError, ModelError, one_line

_log = logging.getLogger(__name__)
# Names of the two inputs, by toolkit; whether the features come before the frames.
LAYOUTS: dict[tuple[str, ...], tuple[str, bool]] = {
    ("features", "feature_lengths"): ("asrkd", False),
    ("audio_signal", "length"): ("NeMo", True),
    ("x", "x_lens"): ("icefall and sherpa-onnx", False),
    ("x", "x_length"): ("sherpa-onnx", False),
}
# (N, T, F) or (N, F, T) and lengths (N,) -> logits (N, T', V)
Run = Callable[[Tensor, Tensor], Tensor]


def layouts_in_words() -> str:
    return "; ".join(f"{', '.join(names)} ({toolkit})" for names, (toolkit, _) in LAYOUTS.items())


def described(path: Path, spec: str) -> GraphFrontEnd | None:
    """The front end that PATH.json names; None where there is no such file.

    Raises:
        ModelError: it cannot be read, or names none.
    """
    beside = description_path(path)
    if not beside.exists():
        return None
    where = f"model {spec!r}: the description {str(beside)!r}"
    try:
        values = json.loads(text.read(beside, what=where, error=ModelError))
    except ValueError as error:
        raise ModelError(f"{where} is not JSON ({error})") from None
    front_end = values.get("front_end") if isinstance(values, dict) else None
    if not isinstance(front_end, dict):
        raise ModelError(f"{where} has no 'front_end', an object of names and values")
    return named_front_end(front_end, f"{where}: front_end")


def described_whole(path: Path) -> bool:
    """Whether PATH.json names the classes too, as asrkd writes it."""
    try:
        values = json.loads(description_path(path).read_bytes())
    except (OSError, ValueError):  # told by who reads it
        return False
    return isinstance(values, dict) and "inventory" in values


def foreign(
    spec: str, path: Path, device: str, run: Run, front_end: GraphFrontEnd, weights: Any, *, channels_first: bool
) -> AcousticModel:
    """A model of a graph with `tokens.txt` next to it.

    Raises:
        ModelError: the tokens or the graph cannot be used.
    """
    labels, blank = _tokens(spec, path)
    network = _OfSamples(run, front_end, channels_first)
    try:
        law = measured_law(network.num_frames, front_end.sampling_rate)
        [noise] = network.logits([0.1 * torch.randn(front_end.sampling_rate)])
    except NoFrameLaw as error:
        raise ModelError(
            f"model {spec!r}: its frames follow no frame law ({error}); export it with a dynamic time axis"
        ) from None
    except AsrkdError:
        raise
    except Exception as error:  # every runtime has its own kinds
        raise ModelError(
            f"model {spec!r} cannot read what its front end {dict(front_end.settings)} makes of noise ({one_line(error)[:300]}); name the front end that it was trained with in PATH.json"
        ) from None
    if noise.shape[-1] != len(labels):
        raise ModelError(
            f"model {spec!r} gives {noise.shape[-1]} classes, but the tokens.txt next to it has {len(labels)} tokens; give the one of this model"
        )
    network.law = law
    network.order = classes_of(spec, labels, blank)[1]
    inventory = classes_of(spec, labels, blank)[0]
    waveform = Waveform(front_end.sampling_rate, law.window, law.shift, begin=law.begin, needed=law.needed)
    identified = identity(weights, ["foreign", dict(front_end.settings), channels_first], waveform, inventory, 1)
    return AcousticModel(
        network, waveform, inventory, 1, spec, identified, device, tokenizer=_pieces(spec, path, inventory)
    )


class _OfSamples:
    """(N, S, 1) samples, (N,) -> (N, T, V) logits in the order of the inventory, (N,)."""

    law: Any
    order: Sequence[int]

    def __init__(self, run: Run, front_end: GraphFrontEnd, channels_first: bool) -> None:
        self._run, self._front_end, self._channels_first = run, front_end, channels_first

    def logits(self, samples: Sequence[Tensor]) -> Tensor:
        rows = [self._front_end.features(one.cpu()) for one in samples]
        joined = pad_sequence(rows, batch_first=True, padding_value=self._front_end.padding)
        lengths = torch.tensor([len(row) for row in rows])
        return self._run(joined.transpose(1, 2).contiguous() if self._channels_first else joined, lengths)

    @torch.no_grad()
    def num_frames(self, num_samples: int) -> int:
        noise = 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(0))
        return int(self.logits([noise]).shape[1])

    def __call__(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        samples = [row[:length, 0] for row, length in zip(features, lengths.tolist(), strict=True)]
        logits = self.logits(samples)
        frames = [self.law.num_frames(len(one)) for one in samples]
        if logits.shape[1] < max(frames) or (len(frames) == 1 and logits.shape[1] != frames[0]):
            raise ValueError(f"{logits.shape[1]} frames, where the frame law that was measured makes {max(frames)}")
        order = torch.tensor(self.order, device=logits.device)
        return logits.index_select(-1, order), torch.tensor(frames, device=lengths.device)


def _pieces(spec: str, path: Path, inventory: Inventory) -> Tokenizer | None:
    """What spells text with the tokens: the bpe.model next to the model; None, with a warning, where it cannot be used."""
    file = path.with_name(MODEL)
    if not file.exists():
        return None
    try:
        tokenizer = read_tokenizer(f"sentencepiece:{file}")
        inventory.check_tokenizer(tokenizer, f"model {spec!r}: {str(file)!r}")
    except AsrkdError as error:
        _log.warning("%s; it is not used, so no transcript can be spelled with the model's tokens", error)
        return None
    return tokenizer


def _tokens(spec: str, path: Path) -> tuple[tuple[str, ...], int]:
    """The tokens of tokens.txt, and which of them is the blank."""
    table = path.with_name("tokens.txt")
    if not table.exists():
        raise ModelError(
            f"model {spec!r}: there is no {str(table)!r}, so its classes have no names; put the tokens.txt of the model next to it"
        )
    try:
        tokens = read_table(table)
    except AsrkdError as error:
        raise ModelError(f"model {spec!r}: {error}") from None
    if BLANK not in tokens:
        raise ModelError(f"model {spec!r}: {str(table)!r} has no blank (<blk>, <blank>, or <eps> with id 0); name it")
    return tokens, tokens.index(BLANK)
