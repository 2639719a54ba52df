"""What is exported of a model: modules of tensors alone, whole utterances or chunks with their state."""

from __future__ import annotations

import copy
import functools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from asrkd.export.attention_graphs import whole_utterances

# Of the layer that sherpa-onnx takes the model for: the smallest.
SHERPA_ENCODER_DIM = 4
# The log-mel of digital silence, the logarithm of float32's epsilon, is below; noise of one 16-bit step is above.
_SILENT = -15.9


def less_causal_mean(frames: Tensor, sums: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N, T, F) less the mean of each and all earlier frames, of which there are `count` (N,) with the sums (N, F); and both after them.

    As `subtract_causal_mean` of the front end, in float32 alone.
    """
    running = frames.cumsum(dim=1) + sums[:, None]
    upto = count[:, None] + torch.arange(1, frames.shape[1] + 1)
    return frames - running / upto[..., None].to(frames.dtype), running[:, -1], upto[:, -1]


def behind_end(frames: Tensor, stack: int) -> Tensor:
    """(N, T, mels) -> (N, T / stack) bool: joined frames with digital silence in them, behind which there is nothing else."""
    silent = (frames.amax(dim=2) < _SILENT).unflatten(1, (-1, stack)).any(dim=2)
    sounding_from_here = (~silent).to(torch.int64).flip(1).cumsum(dim=1).flip(1)
    return sounding_from_here == 0


class UtteranceGraph(nn.Module):
    """Whole utterances: (N, T, F), (N,) -> logits (N, T', V), (N,)."""

    inputs: tuple[str, ...] = ("features", "feature_lengths")
    outputs: tuple[str, ...] = ("logits", "logit_lengths")

    model: Any

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = whole_utterances(exportable(model))

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As the model's own."""
        return self.model(features, feature_lengths)


class StreamGraph(nn.Module):
    """A chunk: (N, C, F) and the state -> logits (N, C', V) and the next state, as `StreamingModel.stream`."""

    model: Any

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = exportable(model)
        count = len(self.model.initial_state(1))
        self.inputs = ("features", *(f"state_{n}" for n in range(count)))
        self.outputs = ("logits", *(f"next_state_{n}" for n in range(count)))

    def forward(self, features: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """As the model's `stream`, with the tensors of the state one by one."""
        logits, after = self.model.stream(features, state)
        return logits, *after


def exportable(model: nn.Module) -> nn.Module:
    """A copy on the CPU in evaluation, without what ONNX has no operator for: LSTMs with a projection become loops."""
    copied = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
    for name, module in list(copied.named_modules()):
        if isinstance(module, nn.LSTM) and module.proj_size:
            parent, _, leaf = name.rpartition(".")
            setattr(copied.get_submodule(parent), leaf, ProjectedLSTM(module))
    return copied


class ProjectedLSTM(nn.Module):
    """`torch.nn.LSTM` with a projection (Sak et al. 2014), batch first and in one direction, frame by frame.

    ONNX's LSTM has no projection, whose output the next frame reads.
    """

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.proj_size = lstm.input_size, lstm.hidden_size, lstm.proj_size
        self.num_layers = lstm.num_layers
        self.layers = nn.ModuleList(_ProjectedLayer(lstm, n) for n in range(lstm.num_layers))

    def forward(
        self, frames: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(N, T, F), ((L, N, P), (L, N, H)) -> (N, T, P) and the next state, as `torch.nn.LSTM`."""
        hidden_after, cell_after = [], []
        for number, layer in enumerate(self.layers):
            if state is None:
                hidden = frames.new_zeros(frames.shape[0], self.proj_size)
                cell = frames.new_zeros(frames.shape[0], self.hidden_size)
            else:
                hidden, cell = state[0][number], state[1][number]
            frames, hidden, cell = layer(frames, hidden, cell)
            hidden_after.append(hidden)
            cell_after.append(cell)
        return frames, (torch.stack(hidden_after), torch.stack(cell_after))


class _ProjectedLayer(nn.Module):
    def __init__(self, lstm: nn.LSTM, number: int) -> None:
        super().__init__()

        def weight(name: str) -> nn.Parameter:
            return nn.Parameter(getattr(lstm, f"{name}_l{number}").detach().clone(), requires_grad=False)

        self.of_input, self.of_hidden = weight("weight_ih"), weight("weight_hh")
        self.bias = nn.Parameter(weight("bias_ih") + weight("bias_hh"), requires_grad=False)
        self.project = weight("weight_hr")

    def forward(self, frames: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gates = functional.linear(frames, self.of_input, self.bias)
        return _scripted_steps()(gates, hidden, cell, self.of_hidden, self.project)


@functools.cache
def _scripted_steps() -> Any:
    """A loop over frames that is not unrolled: scripted where it is needed, not at import."""
    return torch.jit.script(_projected_steps)


def _projected_steps(
    gates: Tensor, hidden: Tensor, cell: Tensor, of_hidden: Tensor, project: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    outputs: list[Tensor] = []
    for n in range(gates.size(1)):
        enter, keep, new, show = (gates[:, n] + torch.matmul(hidden, of_hidden.t())).chunk(4, dim=1)
        cell = torch.sigmoid(keep) * cell + torch.sigmoid(enter) * torch.tanh(new)
        hidden = torch.matmul(torch.sigmoid(show) * torch.tanh(cell), project.t())
        outputs.append(hidden)
    return torch.stack(outputs, dim=1), hidden, cell


class SherpaOnline(nn.Module):
    """A window of log-mel as sherpa-onnx's online type `zipformer2_ctc` reads it, with everything behind its filterbank inside.

    x (N, window, mels) and the caches of one layer of a Zipformer -> log_probs (N, rows, V) and the next caches. Of sherpa-onnx's online CTC
    models this is the one that gets its default features, a batch and a decoding graph (`nemo_ctc` gets those of NeMo). Its first cache, the
    keys, has any width: here it holds the frames of `left_padding`, the model's state and the sums of the causal mean, flattened. The last
    one, `processed_lens`, counts output frames. The others are zeros that pass through.

    The window is `shift` frames and, behind them, those that the model looks ahead, which the next window begins with. So row r of all that
    sherpa-onnx gets is output frame r, and its times are right; the frames ahead are computed twice.

    Digital silence up to the window's end is the end of the utterance: the model reads the frames of zeros that `flush` feeds, and the
    outputs are silence or blank. sherpa-onnx tells a model nothing of the end, and its callers append digital silence.

    Args:
        model: streams.
        rows: output frames of a window, a multiple of the model's `chunk_frames`.
        stack: log-mel frames joined into one.
        causal_mean: subtract the mean of this and all earlier frames.
        num_mels: of the filterbank.
        offset: (V,) added to the log-posteriors: minus the log-prior of an `hmm` model, or the blank penalty.
        scale: multiplies the sum; a graph in sherpa-onnx is searched at a fixed scale of 1.

    Attributes:
        shift, window: log-mel frames from one window to the next, and in one.
        num_state: width of the keys.
    """

    inputs = (
        "x",
        "cached_key_0",
        "cached_nonlin_attn_0",
        "cached_val1_0",
        "cached_val2_0",
        "cached_conv1_0",
        "cached_conv2_0",
        "embed_states",
        "processed_lens",
    )
    outputs = ("log_probs", *(f"new_{name}" for name in inputs[1:]))

    model: Any

    def __init__(
        self, model: nn.Module, *, rows: int, stack: int, causal_mean: bool, num_mels: int, offset: Tensor, scale: float
    ) -> None:
        super().__init__()
        self.model = exportable(model)
        self.stack, self.causal_mean, self.num_mels, self.scale = stack, causal_mean, num_mels, scale
        self.rows, self.output_delay = rows, self.model.output_delay
        ahead = -(-self.output_delay // self.model.chunk_frames) * self.model.chunk_frames
        self.shift, self.window = rows * stack, (rows + ahead - self.model.left_padding) * stack
        self.offset: Tensor
        self.behind_end: Tensor
        self.register_buffer("offset", offset.float())
        # One class certain: the first, silence or blank.
        certain = torch.full((len(offset),), -1e4)
        certain[0] = 0.0
        self.register_buffer("behind_end", certain)
        parts = self.model.initial_state(1)[:-1]
        self.shapes = [
            (num_mels,),
            (self.model.left_padding, stack * num_mels),
            *(tuple(part.shape[1:]) for part in parts),
        ]
        self.sizes = [math.prod(shape) for shape in self.shapes]
        self.num_state = sum(self.sizes)

    def initial_caches(self, batch_size: int) -> tuple[Tensor, ...]:
        """Zeros, of the sizes that sherpa-onnx makes of the metadata."""
        return (
            torch.zeros(1, batch_size, self.num_state),
            torch.zeros(1, batch_size, 1, 3 * SHERPA_ENCODER_DIM // 4),
            torch.zeros(1, batch_size, 1),
            torch.zeros(1, batch_size, 1),
            torch.zeros(batch_size, SHERPA_ENCODER_DIM, 1),
            torch.zeros(batch_size, SHERPA_ENCODER_DIM, 1),
            torch.zeros(batch_size, 128, 3, 19),
            torch.zeros(batch_size, dtype=torch.int64),
        )

    @property
    def metadata(self) -> dict[str, int]:
        """From which sherpa-onnx knows the sizes of the caches."""
        return {
            "encoder_dims": SHERPA_ENCODER_DIM,
            "query_head_dims": self.num_state,
            "value_head_dims": 1,
            "num_heads": 1,
            "num_encoder_layers": 1,
            "cnn_module_kernels": 3,
            "left_context_len": 1,
        }

    def axes(self) -> dict[str, dict[int, str]]:
        """Where the batch is, of each input and output."""
        places = [0, 1, 1, 1, 1, 0, 0, 0, 0]
        return {
            name: {place: "batch"}
            for names in (self.inputs, self.outputs)
            for name, place in zip(names, places, strict=True)
        }

    def forward(
        self,
        frames: Tensor,
        key: Tensor,
        nonlin: Tensor,
        value1: Tensor,
        value2: Tensor,
        conv1: Tensor,
        conv2: Tensor,
        embed: Tensor,
        position: Tensor,
    ) -> tuple[Tensor, ...]:
        """See the class."""
        sums, held, *state = (
            part.unflatten(1, shape) for part, shape in zip(key[0].split(self.sizes, dim=1), self.shapes, strict=True)
        )
        ended = behind_end(frames, self.stack)
        if self.causal_mean:
            # The frames ahead belong to the next window's sums.
            next_sums = sums + frames[:, : self.shift].sum(dim=1)
            frames, _, _ = less_causal_mean(frames, sums, position * self.stack)
            sums = next_sums
        features = frames.reshape(frames.shape[0], -1, self.stack * self.num_mels)
        features = torch.cat([held, features.masked_fill(ended[..., None], 0.0)], dim=1)
        logits, after = self.model.stream(features[:, : self.rows], (*state, position))
        if self.output_delay:
            ahead, _ = self.model.stream(features[:, self.rows :], after)
            logits = torch.cat([logits, ahead], dim=1)[:, self.output_delay : self.output_delay + self.rows]
        held = features[:, self.rows : self.rows + held.shape[1]]
        scores = self.scale * (logits.log_softmax(-1) + self.offset)
        scores = torch.where(ended[:, : self.rows, None], self.behind_end, scores)
        key = torch.cat([part.flatten(1) for part in (sums, held, *after[:-1])], dim=1)[None]
        return scores, key, nonlin, value1, value2, conv1, conv2, embed, after[-1]


class SherpaOffline(nn.Module):
    """Whole utterances of log-mel as sherpa-onnx's offline type `zipformer_ctc` reads them.

    x (N, T, mels), x_lens (N,) -> log_probs (N, T / stack, V), log_probs_len (N,).

    Args:
        model, stack, causal_mean, offset, scale: as in `SherpaOnline`.
    """

    inputs = ("x", "x_lens")
    outputs = ("log_probs", "log_probs_len")

    model: Any

    def __init__(self, model: nn.Module, *, stack: int, causal_mean: bool, offset: Tensor, scale: float) -> None:
        super().__init__()
        self.model = whole_utterances(exportable(model))
        self.stack, self.causal_mean, self.scale = stack, causal_mean, scale
        self.register_buffer("offset", offset.float())

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        places = torch.arange(frames.shape[1])
        inside = places[None] < lengths[:, None]
        # What lies after an utterance's end is sherpa-onnx's padding.
        frames = frames.masked_fill(~inside[..., None], 0.0)
        if self.causal_mean:
            frames = frames - frames.cumsum(dim=1) / (places + 1).to(frames.dtype)[:, None]
        missing = (self.stack - frames.shape[1] % self.stack) % self.stack
        frames = torch.cat([frames, frames.new_zeros(1, 1, 1).expand(frames.shape[0], missing, frames.shape[2])], dim=1)
        features = frames.reshape(frames.shape[0], -1, self.stack * frames.shape[2])
        # A stack that is not whole is not a frame.
        num_features = torch.div(lengths, self.stack, rounding_mode="floor")
        logits, out_lengths = self.model(features, num_features)
        return self.scale * (logits.log_softmax(-1) + self.offset), out_lengths
