"""Gradient threshold compression (Ström 2015, "Scalable distributed DNN training using commodity GPU cloud computing").

Each process adds its gradient to a residual. Where that reaches the threshold, one threshold with its sign is sent and taken off the
residual; the rest waits. A message is a place and a sign in 32 bits, and few places have one, so a fraction of the bytes goes over the wire.
Nothing is lost: what was sent and the residual together are the sum of all gradients, without rounding (the residual is in double precision).
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from asrkd.errors import ConfigError, MismatchError

# No `from __future__ import annotations` here: DDP looks at the hook's annotations themselves.

# A message is a place of 31 bits and a sign.
_MAX_PLACES = 1 << 31


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
    ) -> None:
        """
        Raises:
            ConfigError: a threshold that is not above 0 (0 is DDP without a hook).
        """
        if not threshold > 0:
            raise ConfigError(f"the threshold of gradient compression is {threshold}, but must be above 0")
        # As the gradients are: what is taken off the residual is what the others add.
        self.threshold = float(torch.tensor(threshold, dtype=torch.float32))
        self.group = group
        self.names: dict[Tensor, str] = {parameter: name for name, parameter in named_parameters}
        self.residuals: dict[str, Tensor] = {}
        self.bytes_sent = self.bytes_dense = 0

    def compress(self, name: str, gradient: Tensor) -> Tensor:
        """(K,) int64 messages, 2 x place + (1 where negative), of one parameter's gradient; the rest stays in its residual."""
        total = gradient.detach().double().reshape(-1)
        if name in self.residuals:
            total += self.residuals[name]
        places = (total.abs() >= self.threshold).nonzero()[:, 0]
        negative = total[places] < 0
        total[places] -= torch.where(negative, -self.threshold, self.threshold).double()
        self.residuals[name] = total
        return 2 * places + negative

    def decompress(self, messages: Tensor, like: Tensor) -> Tensor:
        """The sum of messages as a gradient of the shape of `like`."""
        signs = 1 - 2 * (messages % 2).to(like.dtype)
        dense = torch.zeros(like.numel(), dtype=like.dtype, device=like.device)
        return dense.index_add_(0, messages.div(2, rounding_mode="floor"), signs * self.threshold).view_as(like)

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
    messages, start = [], 0
    for parameter, gradient in zip(bucket.parameters(), bucket.gradients(), strict=True):
        messages.append(state.compress(state.names[parameter], gradient) + 2 * start)
        start += gradient.numel()
    if start >= _MAX_PLACES:
        raise ConfigError(
            f"a bucket of {start} gradients is too large for messages of 31 bits; lower DDP's bucket_cap_mb"
        )
    mine = torch.cat(messages)
    counts = [torch.zeros(1, dtype=torch.int64, device=mine.device) for _ in range(world_size)]
    dist.all_gather(counts, torch.tensor([len(mine)], device=mine.device), group=state.group)
    sizes = [int(count) for count in counts]
    # Bits beyond the sign of an int32 are kept: a place of 31 bits and a sign fill it.
    packed = torch.zeros(max(sizes), dtype=torch.int32, device=mine.device)
    packed[: len(mine)] = torch.where(mine < _MAX_PLACES, mine, mine - 2 * _MAX_PLACES).to(torch.int32)
    gathered = [torch.empty_like(packed) for _ in sizes]
    if max(sizes):
        dist.all_gather(gathered, packed, group=state.group)
    state.bytes_sent += (world_size - 1) * (8 + 4 * max(sizes))
    state.bytes_dense += round(2 * (world_size - 1) / world_size * 4 * buffer.numel())
    received = torch.cat([one[:size] for one, size in zip(gathered, sizes, strict=True)]).to(torch.int64)
    future: torch.futures.Future[Tensor] = torch.futures.Future()
    mean = state.decompress(received % (2 * _MAX_PLACES), buffer).div_(world_size)
    # NaN reaches no threshold: without this it would stay in the residual, and nobody would know.
    future.set_result(mean if finite else mean.fill_(torch.nan))
    return future
