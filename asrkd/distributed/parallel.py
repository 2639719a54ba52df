"""One model on the processes of a training: DDP in groups, compressed gradients, block momentum across groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from asrkd.distributed.bmuf import BlockMomentum
from asrkd.distributed.config import ScaleConfig
from asrkd.distributed.gtc import ThresholdCompression, threshold_hook
from asrkd.distributed.ranks import Ranks
from asrkd.errors import ConfigError, MismatchError
from asrkd.streaming.batch import Batch


class Parallel:
    """What the processes of a training tell each other.

    Attributes:
        module: what the forward pass goes through.
        scaler: of the loss, for fp16; it does nothing otherwise.
    """

    def __init__(self, model: nn.Module, settings: ScaleConfig, ranks: Ranks, device: torch.device) -> None:
        """
        Raises:
            ConfigError: `group_size` does not divide the number of processes.
        """
        self.settings, self.ranks, self.device, self.block = settings, ranks, device, settings.bmuf_block
        self.scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
        # Processes that share each update: all of them, or with blocks those of a group.
        size = settings.group_size if self.block else ranks.world_size
        if ranks.world_size % size:
            raise ConfigError(
                f"scale.group_size: is {size}, but must divide the {ranks.world_size} processes of this training"
            )
        self.group_size = size
        self.group = _group_of(ranks, size)
        self.module = model
        self.num_gradients = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        self.updates = 0
        self.compression: ThresholdCompression | None = None
        if size > 1:
            self.module = DistributedDataParallel(model, process_group=self.group)
            if settings.gtc_threshold:
                self.compression = ThresholdCompression(
                    model.named_parameters(), settings.gtc_threshold, self.group, counts=settings.gtc_counts
                )
                self.module.register_comm_hook(self.compression, threshold_hook)
        self.blocks: BlockMomentum | None = None
        if self.block:
            tensors = [*model.parameters(), *(buffer for buffer in model.buffers() if buffer.is_floating_point())]
            if ranks.world_size > 1:
                for tensor in tensors:
                    dist.broadcast(tensor.data, 0)
            self.blocks = BlockMomentum(
                tensors, momentum=settings.bmuf_momentum, rate=settings.bmuf_rate, nesterov=settings.bmuf_nesterov
            )

    def factors(self, batches: Sequence[Batch]) -> list[float]:
        """For each of this process's batches the factor of its mean loss per frame.

        With them the gradient that the group ends up with is that of the mean over all frames of its batches, whatever their sizes.
        """
        if not self.blocks:
            return [batch.weight * self.group_size for batch in batches]
        frames = torch.tensor([int(batch.num_frames.sum()) for batch in batches], dtype=torch.float64)
        total = frames.sum().to(self.device)
        if self.group_size > 1:
            dist.all_reduce(total, group=self.group)
        return (frames / max(float(total), 1.0) * self.group_size).tolist()

    def accumulating(self, last: bool) -> AbstractContextManager[Any]:
        """Around the forward and backward pass of a batch: gradients are exchanged with the last one of an update."""
        if isinstance(self.module, DistributedDataParallel) and not last:
            return self.module.no_sync()
        return nullcontext()

    def end_update(self, step: int, *, final: bool) -> bool:
        """After update `step` (from 1); whether the processes have one model now."""
        self.updates += 1
        if not self.blocks:
            return True
        if step % self.block and not final:
            return False
        self.blocks.end_block()
        return True

    @contextmanager
    def evaluated(self) -> Iterator[None]:
        """Inside, the model's weights are those to keep: with Nesterov's block momentum a block starts elsewhere."""
        if not self.blocks:
            yield
            return
        with self.blocks.at_center():
            yield

    def traffic(self) -> dict[str, float]:
        """Megabytes that this process sent, by a ring, and the share of what DDP over all processes would have sent in as many updates."""
        if not (self.compression or self.blocks) or self.ranks.world_size == 1 or not self.updates:
            return {}
        sent = sum(part.bytes_sent for part in (self.compression, self.blocks) if part)
        if self.group_size > 1 and not self.compression:
            sent += self.updates * self._ring_bytes(self.group_size)
        return {"sent_mb": sent / 1e6, "sent_share": sent / (self.updates * self._ring_bytes(self.ranks.world_size))}

    def _ring_bytes(self, processes: int) -> int:
        """What a process sends of all gradients in single precision to sum them up by a ring."""
        return round(2 * (processes - 1) / processes * 4 * self.num_gradients)

    def state_dict(self) -> dict[str, Any]:
        """What this process alone knows."""
        state: dict[str, Any] = {"scaler": self.scaler.state_dict()}
        if self.compression:
            state["residuals"] = self.compression.state_dict()
        if self.blocks:
            state["blocks"] = self.blocks.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where a state was taken.

        Raises:
            MismatchError: it is of a training with other compression or blocks.
        """
        for name, part in (("residuals", self.compression), ("blocks", self.blocks)):
            if (name in state) != (part is not None):
                raise MismatchError(
                    f"the checkpoint {'has' if name in state else 'lacks'} {name}, which this training "
                    f"{'lacks' if part is None else 'has'}; start as many processes as before"
                )
        self.scaler.load_state_dict(state["scaler"])
        if self.compression:
            self.compression.load_state_dict(state["residuals"])
        if self.blocks:
            self.blocks.load_state_dict(state["blocks"])


def _group_of(ranks: Ranks, size: int) -> dist.ProcessGroup | None:
    """This process's group of `size` neighbors; None for all, or for a process by itself."""
    if size in (1, ranks.world_size):
        return None
    # Every process takes part in making every group.
    groups = [dist.new_group(list(range(start, start + size))) for start in range(0, ranks.world_size, size)]
    mine: dist.ProcessGroup = groups[ranks.rank // size]
    return mine
