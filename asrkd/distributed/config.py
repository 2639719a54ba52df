"""The key `scale` of a training's config."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from asrkd.config import check, setting
from asrkd.distributed.precision import PRECISIONS


@dataclass
class ScaleConfig:
    """How the processes of one training (torchrun) work together, and in what precision (docs/training.md)."""

    precision: str = setting("float32", one_of=tuple(PRECISIONS))
    """Precision of the forward pass; `fp16` scales the loss."""
    gtc_threshold: float = setting(0.0, at_least=0)
    """Threshold of gradient compression (Ström 2015); 0 sends whole gradients (DDP)."""
    gtc_counts: bool = True
    """Let a message hold several thresholds; false is the paper's format, one threshold per 32-bit word."""
    bmuf_block: int = setting(0, at_least=0)
    """Updates between two averagings of the groups' models (BMUF, Chen & Huo 2016); 0 trains one model."""
    bmuf_momentum: float = setting(0.0, at_least=0, below=1)
    """Block momentum."""
    bmuf_rate: float = setting(1.0, above=0)
    """Block learning rate."""
    bmuf_nesterov: bool = True
    """Use Nesterov block momentum."""
    group_size: int = setting(1, at_least=1)
    """Processes that share each model with BMUF; must divide their number."""

    def __post_init__(self) -> None:
        check(self, "scale")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.gtc_threshold and self.precision == "fp16":
            yield (
                "gtc_threshold",
                f"is {self.gtc_threshold} and scale.precision 'fp16', whose scaled gradients would be compared with the threshold; use bf16 or float32 "
                "with compression",
            )
