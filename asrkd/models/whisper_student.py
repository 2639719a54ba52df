"""A streaming student that starts from the first layers of Whisper's encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.waveform import AnyFrontEnd
from asrkd.errors import ConfigError, MismatchError
from asrkd.models.pretrained_encoder import built_encoder
from asrkd.models.streaming import StreamState, check_whole_chunks
from asrkd.models.whisper_start import check_layers, mel_map, sinusoids, whisper_start

_FRONT_END = FrontEnd.from_dict({"preset": "sherpa"})
# Log-mel frames of 10 ms that an output frame of 40 ms has; those of the encoder, 20 ms, that it has.
_MELS, _HALVES = 4, 2
# Log-mel frames that the first convolution looks back at, and frames of its output that the second one does.
_BACK, _STRIDE_BACK = 2, 1


class WhisperStudent(nn.Module):
    """Whisper's stem and first encoder layers (Radford et al. 2022) with attention in chunks, (N, T, input_dim) -> (N, T', num_classes).

    Reads icefall's and sherpa-onnx's features (`front_end: {preset: sherpa}`; with `stack` and `stride` 1 or 2 `model.subsampling_factor` is 4 or 2), whose bins
    a linear layer turns into Whisper's. It starts as what follows from the two filterbanks, and is trained. Two of Whisper's frames of 20 ms are joined before the
    head, so a frame is 40 ms.

    A frame attends to its whole chunk and to `left_frames` before that, so the lookahead is at most a chunk; there is no further delay: the convolutions, which
    look ahead by two frames of 10 ms, are moved by one and read no chunk but their own and what was before. Positions are Whisper's sines, counted from the
    stream's start. In training an utterance starts at a random one, up to `max_offset`, of which the logarithm is uniform: that of a long stream is not new.

    Frames of zeros, which the log-mel of audio never has, are none: they are not attended to. An utterance is filled up with them to a whole chunk.

    A stream's state: the last two log-mel frames as Whisper's (N, 2, mels), the last frame of the first convolution (N, 1, D), which of the frames before the chunk
    there are (N, L), for each layer their keys and values (N, L, D), L = 2 `left_frames`, and the position, (N,).

    Attributes:
        checkpoint_args: what builds this network again without the model that its weights came from.

    Args:
        name: a folder that `save_pretrained` wrote, a name on the hub, or the run folder or checkpoint of a Whisper encoder that asrkd fine-tuned.
        layers: of the encoder, from the input on.
        feedforward_dim: units that are kept of each layer's feed-forward network, those that count most, so that a student of a given size has more layers; all
            of them if not given.
        chunk_frames: output frames of a chunk.
        left_frames: output frames before the chunk that are attended to.
        dropout: of what each layer adds, and of what the head reads.
        max_offset: output frames; 0 for none.
        config: of a checkpoint, in place of `name`.

    Raises:
        ModelError: no such encoder.
        ConfigError: an argument that does not fit it.
        DependencyError: transformers is not installed.
    """

    left_padding = 0
    output_delay = 0

    def __init__(
        self,
        input_dim: int,
        num_classes: int,
        name: str = "",
        layers: int = 2,
        chunk_frames: int = 16,
        left_frames: int = 32,
        dropout: float = 0.0,
        max_offset: int = 90_000,
        feedforward_dim: int | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if bool(name) == bool(config) or not isinstance(name, str):
            raise ConfigError(
                f"model.args.name: is {name!r}; give the folder of a Whisper model, its name on the hub, or a run that fine-tuned one"
            )
        sizes = {"chunk_frames": chunk_frames, "left_frames": left_frames, "max_offset": max_offset}
        for key, value in sizes.items():
            least = int(key == "chunk_frames")
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(
                    f"model.args.{key}: is {value!r}, but must be a whole number of at least {least} frames"
                )
        if not 0 <= dropout < 1:
            raise ConfigError(f"model.args.dropout: is {dropout!r}, but must be at least 0 and below 1")
        check_layers(layers, None, name)
        self._stack, rest = divmod(input_dim, _FRONT_END.num_mels)
        if rest or self._stack not in (1, 2, 4):
            raise ConfigError(
                f"front_end: the front end gives {input_dim} values a frame, but this model reads {_FRONT_END.num_mels} mel bins every 10 ms, 1, 2 or 4 frames joined; "
                "set front_end: {preset: sherpa}"
            )
        loaded = built_encoder(config, {}) if config else whisper_start(name, layers, feedforward_dim)
        self.chunk_frames = chunk_frames * _MELS // self._stack
        self._chunk, self._left, self._max_offset = _HALVES * chunk_frames, _HALVES * left_frames, max_offset
        self._heads = loaded.module.config.encoder_attention_heads
        self.encoder: Any = loaded.module
        self.encoder.config.dropout = dropout
        for layer in self.encoder.layers:
            layer.dropout = dropout
        del self.encoder.embed_positions
        num_mels = loaded.module.config.num_mel_bins
        self.mel = nn.Linear(_FRONT_END.num_mels, num_mels)
        if not config:
            weight, bias = mel_map(_FRONT_END, num_mels)
            self.mel.load_state_dict({"weight": weight, "bias": bias})
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(_HALVES * loaded.hidden_dim, num_classes)
        self.checkpoint_args: dict[str, Any] = {"config": loaded.config, **sizes, "dropout": dropout}

    def parameter_depths(self) -> dict[str, int]:
        """By the name of each parameter of Whisper's, how many of the layers are above it; the mel bins count as below the first."""
        last, depths = len(self.encoder.layers), {}
        for name, _ in self.named_parameters():
            part, *rest = name.split(".")
            if part in ("mel", "encoder"):
                is_layer = rest[0] == "layers"
                # The norm after the last layer belongs to it.
                depths[name] = last - 1 - int(rest[1]) if is_layer else 0 if rest[0] == "layer_norm" else last
        return depths

    def check_front_end(self, front_end: AnyFrontEnd) -> None:
        """Raise `MismatchError` for a front end whose features are not those that are turned into Whisper's."""
        wanted, given = _FRONT_END.to_dict(), front_end.to_dict()
        wanted |= {"stack": self._stack, "stride": self._stack}
        for key in sorted({*wanted, *given}):
            if given.get(key) != wanted.get(key):
                raise MismatchError(
                    f"front_end.{key} is {given.get(key)!r}, but WhisperStudent turns features with {key} {wanted.get(key)!r} into Whisper's; set front_end: "
                    "{preset: sherpa}"
                )

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, F), (N,) -> logits (N, T', V), (N,)."""
        num_frames, factor = features.shape[1], _MELS // self._stack
        # Padding may hold anything, also NaN.
        padding = torch.arange(num_frames, device=features.device)[None] >= feature_lengths[:, None]
        missing = (self.chunk_frames - num_frames % self.chunk_frames) % self.chunk_frames
        features = functional.pad(features.masked_fill(padding[..., None], 0.0), (0, 0, 0, missing))
        *state, position = self.initial_state(features.shape[0])
        if self.training and self._max_offset:
            drawn = torch.rand(position.shape, device=position.device) * math.log1p(self._max_offset)
            position = drawn.exp().to(torch.int64) - 1
        logits, _ = self.stream(features, (*state, position))
        return logits[:, : -(-num_frames // factor)], -(-feature_lengths // factor)

    def initial_state(self, batch_size: int = 1) -> StreamState:
        """The state of streams that have read nothing."""
        # The norm's weights stay numbers in an int8 model.
        weight = self.encoder.layer_norm.weight
        mels = weight.new_zeros(batch_size, _BACK, self.mel.out_features)
        stem = weight.new_zeros(batch_size, _STRIDE_BACK, len(weight))
        before = [weight.new_zeros(batch_size, self._left, len(weight)) for _ in self.encoder.layers for _ in range(2)]
        there = weight.new_zeros(batch_size, self._left)
        return mels, stem, there, *before, weight.new_zeros(batch_size, dtype=torch.int64)

    def stream(self, features: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        """Read whole chunks (N, C, F); returns logits (N, C', V) and the next state.

        Raises:
            MismatchError: C is not a multiple of the chunk.
        """
        check_whole_chunks(self, features)
        if features.shape[1] == 0:
            return features.new_zeros(features.shape[0], 0, self.output.out_features), state
        mels, stem, there, *before, position = state
        hidden, mels, stem, here = self._stem(features, mels, stem)
        steps = torch.arange(hidden.shape[1], device=position.device)
        hidden = hidden + sinusoids(_HALVES * position[:, None] + steps, hidden.shape[2]).to(hidden.dtype)
        hidden = self.dropout(hidden)
        there = torch.cat([there, here.to(there.dtype)], dim=1)
        # A frame after the end has at least itself to attend to.
        own = torch.arange(-self._left, self._chunk, device=position.device) == steps[: self._chunk, None]
        attended = (self._windows(there) > 0.5)[:, :, None] | own
        after = []
        for layer, key, value in zip(self.encoder.layers, before[::2], before[1::2], strict=True):
            hidden, key, value = self._layer(layer, hidden, key, value, attended)
            after += [key, value]
        hidden = self.encoder.layer_norm(hidden)
        joined = hidden.reshape(hidden.shape[0], -1, _HALVES * hidden.shape[2])
        position = position + features.shape[1] * self._stack // _MELS
        return self.output(self.dropout(joined)), (
            mels,
            stem,
            there[:, there.shape[1] - self._left :],
            *after,
            position,
        )

    def flush(self, state: StreamState) -> tuple[Tensor, StreamState]:
        """End the stream: there is nothing left."""
        return state[0].new_zeros(state[0].shape[0], 0, self.output.out_features), state

    def _stem(self, features: Tensor, mels: Tensor, stem: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(N, C, F) -> (N, C', D) of the convolutions, every 20 ms, what they look back at next, and (N, C') which frames there are."""
        frames = features.reshape(features.shape[0], -1, _FRONT_END.num_mels)
        here = (frames != 0).any(dim=2)
        # Whisper's convolutions see zeros, in its own scale, where there is nothing.
        bins = self.mel(frames).masked_fill(~here[..., None], 0.0)
        bins = torch.cat([mels, bins.to(mels.dtype)], dim=1)
        conv1, conv2 = self.encoder.conv1, self.encoder.conv2
        low = functional.gelu(functional.conv1d(bins.transpose(1, 2), conv1.weight, conv1.bias)).transpose(1, 2)
        low = torch.cat([stem, low.to(stem.dtype)], dim=1)
        hidden = functional.gelu(functional.conv1d(low.transpose(1, 2), conv2.weight, conv2.bias, stride=2))
        halves = here.reshape(here.shape[0], -1, 2).any(dim=2)
        return hidden.transpose(1, 2), bins[:, -_BACK:], low[:, -_STRIDE_BACK:], halves

    def _layer(
        self, layer: Any, hidden: Tensor, key: Tensor, value: Tensor, attended: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Whisper's layer over chunks: (N, T, D), keys and values before them (N, L, D) -> (N, T, D), and those before the next chunk."""
        attention = layer.self_attn
        normed = layer.self_attn_layer_norm(hidden)
        keys = torch.cat([key, attention.k_proj(normed).to(key.dtype)], dim=1)
        values = torch.cat([value, attention.v_proj(normed).to(value.dtype)], dim=1)
        query = attention.q_proj(normed).to(key.dtype)
        # (N K, H, frames, D / H) each, K chunks.
        of_chunks = query.reshape(-1, self._chunk, self._heads, query.shape[2] // self._heads).transpose(1, 2)
        mixed = functional.scaled_dot_product_attention(
            of_chunks, self._by_head(keys), self._by_head(values), attended.flatten(0, 1)[:, None]
        )
        mixed = attention.out_proj(mixed.transpose(1, 2).reshape(hidden.shape))
        hidden = hidden + functional.dropout(mixed, layer.dropout, self.training)
        inner = layer.activation_fn(layer.fc1(layer.final_layer_norm(hidden)))
        hidden = hidden + functional.dropout(layer.fc2(inner), layer.dropout, self.training)
        return hidden, keys[:, keys.shape[1] - self._left :], values[:, values.shape[1] - self._left :]

    def _windows(self, frames: Tensor) -> Tensor:
        """(N, L + K C, ...) -> (N, K, L + C, ...): what each chunk attends to."""
        # Not `unfold`, which ONNX does not have.
        first = torch.arange(0, frames.shape[1] - self._left, self._chunk, device=frames.device)
        return frames[:, first[:, None] + torch.arange(self._left + self._chunk, device=frames.device)]

    def _by_head(self, frames: Tensor) -> Tensor:
        """(N, L + K C, D) -> (N K, H, L + C, D / H)."""
        windows = self._windows(frames).flatten(0, 1)
        return windows.unflatten(2, (self._heads, -1)).transpose(1, 2)
