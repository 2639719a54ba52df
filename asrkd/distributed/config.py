"""The key `scale` of a training's config."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ScaleConfig:
    """How the processes of one training (torchrun) work together, and in what precision; see docs/training.md.

    `precision` of the forward pass: `float32`, `bf16`, or `fp16` with loss scaling. Processes update one model (DDP); `gtc_threshold`
    compresses their gradients (0: not), in messages of one threshold and a word each unless `gtc_counts`. With `bmuf_block` each group of `group_size`
    processes updates a model of its own, and after so many updates these are averaged and filtered with `bmuf_momentum` and `bmuf_rate`;
    `group_size` must divide their number."""

    precision: str = "float32"
    gtc_threshold: float = 0.0
    gtc_counts: bool = True
    bmuf_block: int = 0
    bmuf_momentum: float = 0.0
    bmuf_rate: float = 1.0
    bmuf_nesterov: bool = True
    group_size: int = 1
