"""Gradient threshold compression (Ström 2015, "Scalable distributed DNN training using commodity GPU cloud computing").

Each process adds its gradient to a residual. Where that reaches the threshold, thresholds with its sign are sent and taken off the residual; the rest
waits. Few places have a message, so a fraction of the bytes goes over the wire. Nothing is lost: what was sent and the residual together are the sum
of all gradients, without rounding (the residual is in double precision).

A message of the paper is a 31-bit place and a sign, one threshold. A place whose gradient is of many thresholds then sends for as many updates
what a single one said, and learning slows down however small the threshold is. Here a message counts thresholds, and where many places have one, all
of them together are written in fewer bits (`asrkd.distributed.gtc_messages`), so that a small threshold, which delays little, is cheap.
"""

from collections.abc import Iterable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from asrkd.distributed.gtc_messages import largest_count, pack_shortest, unpack_messages
from asrkd.errors import ConfigError, MismatchError

# No `from __future__ import annotations` here: DDP looks at the hook's annotations themselves.

# Of a process and a bucket: the length of its messages in bytes, and whether they are planes.
_HEADER_BYTES = 16


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
            counts: whether a message says how many thresholds; otherwise it is one, and a 32-bit word, as in the paper.

        Raises:
            ConfigError: a threshold that is not above 0 (0 is DDP without a hook).
        """
        if not threshold > 0:
            raise ConfigError(f"the threshold of gradient compression is {threshold}, but must be above 0")
        # Of few enough bits that this many thresholds are a number in double precision.
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
        # A NaN is not a message: it stays.
        counts = (total / self.threshold).trunc().clamp_(-most, most).nan_to_num_(0.0)
        places = counts.nonzero()[:, 0]
        counts = counts[places]
        total[places] -= counts * self.threshold
        self.residuals[name] = total
        return places, counts.long()

    def compress_all(self, gradients: Mapping[str, Tensor], most: int = 1) -> tuple[Tensor, Tensor]:
        """The same of several parameters by name; places are those of all gradients one after another."""
        places, counts, start = [], [], 0
        for name, gradient in gradients.items():
            found = self.compress(name, gradient, most)
            places.append(found[0] + start)
            counts.append(found[1])
            start += gradient.numel()
        return torch.cat(places), torch.cat(counts)

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
    size = buffer.numel()
    most = largest_count(size) if state.counts else 1
    names = (state.names[parameter] for parameter in bucket.parameters())
    places, counts = state.compress_all(dict(zip(names, bucket.gradients(), strict=True)), most)
    mine, in_planes = pack_shortest(places, counts, size, planes=state.counts)
    received = _exchanged(mine, in_planes, state)
    state.bytes_sent += (world_size - 1) * (_HEADER_BYTES + max(len(content) for content, _ in received))
    state.bytes_dense += round(2 * (world_size - 1) / world_size * 4 * size)
    messages = [unpack_messages(content, size, planes=planes) for content, planes in received]
    future: torch.futures.Future[Tensor] = torch.futures.Future()
    all_places, all_counts = (torch.cat(parts) for parts in zip(*messages, strict=True))
    mean = state.decompress(all_places, all_counts, buffer).div_(world_size)
    # NaN reaches no threshold: without this it would stay in the residual, and nobody would know.
    future.set_result(mean if finite else mean.fill_(torch.nan))
    return future


def _exchanged(mine: Tensor, in_planes: bool, state: ThresholdCompression) -> list[tuple[Tensor, bool]]:
    """The bytes of every process of the group, and whether they are planes."""
    header = torch.tensor([len(mine), in_planes], dtype=torch.int64, device=mine.device)
    headers = [torch.zeros_like(header) for _ in range(dist.get_world_size(state.group))]
    dist.all_gather(headers, header, group=state.group)
    lengths = [(int(length), bool(planes)) for length, planes in headers]
    # All send as much: the longest.
    padded = torch.zeros(max(length for length, _ in lengths), dtype=torch.uint8, device=mine.device)
    padded[: len(mine)] = mine
    gathered = [torch.empty_like(padded) for _ in lengths]
    if len(padded):
        dist.all_gather(gathered, padded, group=state.group)
    return [(content[:length], planes) for content, (length, planes) in zip(gathered, lengths, strict=True)]
