"""The output of a teacher's layer, stored next to its posteriors."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from asrkd import files, fingerprint
from asrkd.acoustic import AcousticModel
from asrkd.corpus.audio import read_audio
from asrkd.corpus.cuts import iterate, open_cuts
from asrkd.errors import ConfigError, MismatchError, ModelError, StoreError
from asrkd.models.layer import layer_frames, tapped
from asrkd.store import Store
from asrkd.store.files import Files
from asrkd.store.identity import Identity
from asrkd.store.schema import CODEBOOKS
from asrkd.targets.layer_codec import Codebooks, Float16, HiddenCodec, fit_codebooks, nearest_centers
from asrkd.targets.streams import HIDDEN


@dataclass(frozen=True)
class LayerEncoder:
    """What is stored of a layer: its name in the teacher's model, how it is stored, and the codebooks if that needs them."""

    name: str
    codec: HiddenCodec
    codebooks: Tensor | None = None

    def encode(self, output: Tensor, parts: Sequence[slice], num_frames: int) -> list[bytes]:
        """The bytes of each utterance of a batch.

        Args:
            output: (N, T, D) of the layer.
            parts: the frames of each utterance that are stored.
            num_frames: of the padded logits.
        """
        frames = layer_frames(output, len(parts), num_frames, name=self.name)
        books = None if self.codebooks is None else self.codebooks.to(frames.device)
        return [self.codec.encode(one[part], books) for one, part in zip(frames, parts, strict=True)]


def open_encoder(store: Store) -> LayerEncoder | None:
    """The encoder of a store; None where it stores no layer.

    Raises:
        StoreError: its codebooks are not there.
        MismatchError: they are not those that it was planned with.
    """
    identity = store.identity
    if HIDDEN not in identity.streams:
        return None
    codec = cast(HiddenCodec, identity.streams[HIDDEN])
    if not codec.entries:
        return LayerEncoder(identity.layer, codec)
    data = store.files.read_or_none(CODEBOOKS)
    if data is None:
        raise StoreError(
            f"{CODEBOOKS} of the store {store.root!r} is not there, so layer {identity.layer!r} cannot be encoded; restore it"
        )
    if fingerprint.of_bytes(data) != identity.codebooks_fingerprint:
        raise MismatchError(
            f"{CODEBOOKS} of the store {store.root!r} is not the one that it was planned with; indexes of two quantizers must not be mixed. Restore it"
        )
    return LayerEncoder(identity.layer, codec, torch.from_numpy(np.load(io.BytesIO(data), allow_pickle=False)))


def with_layer(identity: Identity, new: Files, teacher: AcousticModel, layer: str, codebooks: str) -> Identity:
    """A new store's identity with the stream of a layer; its codebooks are copied into the store.

    Raises:
        ConfigError: the model has no such layer, or the file holds no codebooks for it.
        MismatchError: the layer gives no vector for every frame.
    """
    width = layer_outputs(teacher, torch.zeros(2, teacher.front_end.sampling_rate), layer)[0].shape[1]
    if not codebooks:
        return _stored(identity, layer, Float16(width))
    try:
        with open(codebooks, "rb") as file:
            data = file.read()
        books = np.load(io.BytesIO(data), allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"codebooks {codebooks!r} cannot be read ({error}); make them with asrkd label codebooks"
        ) from None
    if books.ndim != 3 or books.shape[0] * books.shape[2] != width or not 2 <= books.shape[1] <= 256:
        raise ConfigError(
            f"codebooks {codebooks!r} have the shape {books.shape}, which is none of (books, entries, part) for the {width} dimensions of layer "
            f"{layer!r}; make them with asrkd label codebooks for this layer"
        )
    new.write(CODEBOOKS, data)
    return _stored(identity, layer, Codebooks(*books.shape[:2]), fingerprint.of_bytes(data))


def _stored(identity: Identity, layer: str, codec: HiddenCodec, codebooks: str = "") -> Identity:
    streams = {**identity.streams, HIDDEN: codec}
    return dataclasses.replace(identity, streams=streams, layer=layer, codebooks_fingerprint=codebooks)


def make_codebooks(
    cuts: str,
    out: str,
    *,
    teacher: AcousticModel,
    layer: str,
    count: int,
    entries: int,
    max_frames: int = 50_000,
    seed: int = 0,
) -> tuple[int, float]:
    """Fit codebooks to a layer's output on the first cuts of a corpus, and write them to the file `out`.

    Returns:
        The number of frames, and the share of the layer's variance that indexes keep.

    Raises:
        ConfigError: numbers that do not go with the layer, or a model without it.
        CorpusError: a cut that cannot be read.
    """
    parts: list[Tensor] = []
    for cut in iterate(open_cuts(cuts), what=cuts):
        samples = torch.from_numpy(read_audio(cut, teacher.front_end.sampling_rate))
        parts += layer_outputs(teacher, samples[None], layer)
        if sum(len(part) for part in parts) >= max_frames:
            break
    frames = torch.cat(parts)[:max_frames] if parts else torch.empty(0, 1)
    books = fit_codebooks(frames, count, entries, seed=seed)
    indexes = nearest_centers(frames, books)
    kept = torch.cat([book[indexes[:, number]] for number, book in enumerate(books)], dim=1)
    left = float((frames - kept).square().sum() / (frames - frames.mean(0)).square().sum().clamp_min(1e-12))
    sink = io.BytesIO()
    np.save(sink, books.numpy().astype("<f4"), allow_pickle=False)
    files.write(out, sink.getvalue())
    return len(frames), 1 - left


@torch.no_grad()
def layer_outputs(teacher: AcousticModel, samples: Tensor, layer: str) -> list[Tensor]:
    """(T', D) float32 output of a layer for each row of (N, S) samples, in the host's memory."""
    if not isinstance(teacher.network, nn.Module):
        raise ModelError(
            f"teacher {teacher.spec!r} is not a torch.nn.Module, so its layers cannot be looked into; leave out the layer"
        )
    features = torch.stack([teacher.front_end(one) for one in samples])
    with tapped(teacher.network, layer) as outputs:
        log_probs, lengths = teacher.log_probs(features, torch.full((len(features),), features.shape[1]))
    frames = layer_frames(outputs[-1], len(features), log_probs.shape[1], name=layer)
    return [one[:length].float().cpu() for one, length in zip(frames, lengths.tolist(), strict=True)]
