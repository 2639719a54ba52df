"""Gradient threshold compression (Ström 2015, "Scalable distributed DNN training using commodity GPU cloud computing").

Each process adds its gradient to a residual. Where that reaches the threshold, thresholds with its sign are sent and taken off the residual; the rest
waits. Few places have a message, so a fraction of the bytes goes over the wire. Nothing is lost: what was sent and the residual together are the sum
of all gradients, without rounding (the residual is in double precision).

A message of the paper is a place of 31 bits and a sign, one threshold. A place whose gradient is of many thresholds then sends for as many updates
what a single one said, and learning slows down however small the threshold is. Here the bits that a place does not need count thresholds.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from asrkd.errors import ConfigError, MismatchError

# No `from __future__ import annotations` here: DDP looks at the hook's annotations themselves.

# Of a message; the other 31 are a place and a count.
_SIGN = 1 << 31


class ThresholdCompression:
    """The state of a DDP communication hook: `ddp.register_comm_hook(compression, threshold_hook)`.

    Attributes:
        threshold: the size of what is sent, in units of the gradient.
        bytes_sent: that this process sent, with the sizes of messages, by a ring (world_size - 1 times its own message).
        bytes_dense: that it would have sent for whole gradients in single precision, by a ring.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        threshold: float,
        group: dist.ProcessGroup | None = None,
        *,
        counts: bool = True,
    ) -> None:
        """
        Args:
            named_parameters: of the model.
            threshold: of what is sent, in units of the gradient.
            group: of the processes; None for all.
            counts: whether a message says how many thresholds; otherwise it is one, as in the paper.

        Raises:
            ConfigError: a threshold that is not above 0 (0 is DDP without a hook).
        """
        if not threshold > 0:
            raise ConfigError(f"the threshold of gradient compression is {threshold}, but must be above 0")
        # Of few enough bits that so many thresholds are a number in double precision.
        self.threshold = float(torch.tensor(threshold, dtype=torch.float32))
        self.group, self.counts = group, counts
        self.names: dict[Tensor, str] = {parameter: name for name, parameter in named_parameters}
        self.residuals: dict[str, Tensor] = {}
        self.bytes_sent = self.bytes_dense = 0

    def compress(self, name: str, gradient: Tensor, most: int = 1) -> tuple[Tensor, Tensor]:
        """Places (K,) of one parameter's gradient and how many thresholds go there (K,), up to `most` and with a sign; the rest stays in its residual."""
        total = gradient.detach().double().reshape(-1)
        if name in self.residuals:
            total += self.residuals[name]
        # A NaN is no message: it stays.
        counts = (total / self.threshold).trunc().clamp_(-most, most).nan_to_num_(0.0)
        places = counts.nonzero()[:, 0]
        counts = counts[places]
        total[places] -= counts * self.threshold
        self.residuals[name] = total
        return places, counts.long()

    def decompress(self, places: Tensor, counts: Tensor, like: Tensor) -> Tensor:
        """The sum of messages as a gradient of the shape of `like`, rounded once."""
        # Whole numbers: the same sum in whatever order a device adds.
        dense = torch.zeros(like.numel(), dtype=torch.int64, device=like.device).index_add_(0, places, counts)
        return (dense.double() * self.threshold).to(like.dtype).view_as(like)

    def state_dict(self) -> dict[str, Tensor]:
        """The residuals by parameter."""
        return dict(self.residuals)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Raises MismatchError for residuals of other parameters."""
        sizes = {name: parameter.numel() for parameter, name in self.names.items()}
        for name, residual in state.items():
            if sizes.get(name) != residual.numel():
                raise MismatchError(
                    f"the checkpoint has a residual of {residual.numel()} values for {name!r}, the model has {sizes.get(name, 0)}; it is of another model"
                )
        self.residuals = {
            name: state[name].to(parameter.device) for parameter, name in self.names.items() if name in state
        }


def threshold_hook(state: ThresholdCompression, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """The mean over processes of what each sends of a bucket, for `DistributedDataParallel.register_comm_hook`."""
    world_size = dist.get_world_size(state.group)
    buffer: Tensor = bucket.buffer()
    finite = bool(buffer.isfinite().all())
    bits = max((buffer.numel() - 1).bit_length(), 1)
    if bits > 30:
        raise ConfigError(
            f"a bucket of {buffer.numel()} gradients is too large for messages of 32 bits; lower DDP's bucket_cap_mb"
        )
    most = (1 << (31 - bits)) - 1 if state.counts else 1
    messages, start = [], 0
    for parameter, gradient in zip(bucket.parameters(), bucket.gradients(), strict=True):
        places, counts = state.compress(state.names[parameter], gradient, most)
        messages.append(_packed(places + start, counts, bits))
        start += gradient.numel()
    mine = torch.cat(messages)
    lengths = [torch.zeros(1, dtype=torch.int64, device=mine.device) for _ in range(world_size)]
    dist.all_gather(lengths, torch.tensor([len(mine)], device=mine.device), group=state.group)
    sizes = [int(length) for length in lengths]
    padded = torch.zeros(max(sizes), dtype=torch.int32, device=mine.device)
    padded[: len(mine)] = mine
    gathered = [torch.empty_like(padded) for _ in sizes]
    if max(sizes):
        dist.all_gather(gathered, padded, group=state.group)
    state.bytes_sent += (world_size - 1) * (8 + 4 * max(sizes))
    state.bytes_dense += round(2 * (world_size - 1) / world_size * 4 * buffer.numel())
    received = torch.cat([one[:size] for one, size in zip(gathered, sizes, strict=True)])
    future: torch.futures.Future[Tensor] = torch.futures.Future()
    mean = state.decompress(*_unpacked(received, bits), buffer).div_(world_size)
    # NaN reaches no threshold: without this it would stay in the residual, and nobody would know.
    future.set_result(mean if finite else mean.fill_(torch.nan))
    return future


def _packed(places: Tensor, counts: Tensor, bits: int) -> Tensor:
    """(K,) int32: a sign, a count, and a place of so many bits."""
    # The sign bit of an int32 stands for -2^31.
    return ((counts.abs() << bits) + places - _SIGN * (counts < 0)).to(torch.int32)


def _unpacked(messages: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Places and counts (K,) int64."""
    whole = messages.long()
    size = whole + _SIGN * (whole < 0)
    return size & ((1 << bits) - 1), (size >> bits) * torch.where(whole < 0, -1, 1)
