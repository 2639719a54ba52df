"""What the messages of compressed gradients take, as words and as bit planes, next to the entropy.

    python tools/benchmarks/compression.py

A small streaming student learns made-up classes from noisy features; its gradients go through gradient threshold compression
(`asrkd.distributed.gtc`) with a residual for each threshold, as on one process of several. The thresholds are multiples of the root mean square
of the gradient, whole DDP takes 32 bits a place.

- places: the share that has a message.
- words, planes: bits a place. Shorter: what is sent, the shorter of the two.
- entropy: bits a place of the counts, were each drawn by itself from how often it occurs: what no code of single counts goes below.
- of DDP: bytes sent by a ring of four processes, as a share of what plain DDP sends.
- ms: to pack and unpack the planes of one update on one thread, and next to it the update itself (forward, backward, AdamW).
"""

from __future__ import annotations

import time

import click
import torch
from torch import Tensor, nn

from asrkd.distributed.gtc import ThresholdCompression
from asrkd.distributed.gtc_messages import largest_count, pack_planes, pack_shortest, unpack_planes
from asrkd.models import TDNNStudent
from asrkd.report.tables import text_table

CLASSES, FEATURES, BATCH, FRAMES = 100, 80, 4, 120
MULTIPLES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
PROCESSES = 4
# Of a ring: each process sends its messages to all others, where DDP sends (and sums) each share twice.
RING = (PROCESSES - 1) / (2 * (PROCESSES - 1) / PROCESSES)


class Totals:
    """Of one threshold over all updates."""

    def __init__(self, student: nn.Module, threshold: float) -> None:
        self.state = ThresholdCompression(student.named_parameters(), threshold)
        self.size = sum(parameter.numel() for parameter in student.parameters())
        self.updates = self.sent = self.plane_bytes = self.bytes = 0
        self.entropy = self.seconds = 0.0

    def add(self, gradients: dict[str, Tensor]) -> None:
        where, count = self.state.compress_all(gradients, largest_count(self.size))
        began = time.perf_counter()
        content = pack_planes(where, count, self.size)
        found = unpack_planes(content, self.size)
        self.seconds += time.perf_counter() - began
        if not (torch.equal(found[0], where) and torch.equal(found[1], count)):
            raise SystemExit("what was unpacked is not what was packed")
        occurrences = torch.cat([torch.unique(count, return_counts=True)[1], torch.tensor([self.size - len(count)])])
        shares = occurrences[occurrences > 0] / self.size
        self.entropy += float(-(shares * shares.log2()).sum())
        self.updates += 1
        self.sent += len(where)
        self.plane_bytes += len(content)
        self.bytes += len(pack_shortest(where, count, self.size)[0])

    def row(self, multiple: float) -> list[str]:
        places = self.updates * self.size
        shorter = 8 * self.bytes / places
        bits = (32 * self.sent / places, 8 * self.plane_bytes / places, shorter, self.entropy / self.updates)
        return [
            f"{multiple:g}",
            f"{100 * self.sent / places:.1f} %",
            *(f"{one:.2f}" for one in bits),
            f"{shorter * self.updates / self.entropy:.2f}",
            f"{100 * RING * shorter / 32:.1f} %",
            f"{1000 * self.seconds / self.updates:.1f}",
        ]


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option("--updates", type=click.IntRange(min=1), default=100, help="Updates that count.")
@click.option(
    "--skip",
    type=click.IntRange(min=1),
    default=20,
    help="Updates before the first that counts; the thresholds follow from their last gradient.",
)
def main(updates: int, skip: int) -> None:
    """Print what messages take at each threshold, as words and as bit planes, next to the entropy of their counts."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    student = TDNNStudent(FEATURES, CLASSES, hidden_dim=128)
    centers = torch.randn(CLASSES, FEATURES)
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.004)
    totals: list[Totals] = []
    seconds = 0.0
    for step in range(skip + updates):
        labels = torch.randint(CLASSES, (BATCH, FRAMES // 10)).repeat_interleave(10, dim=1)
        features = centers[labels] + 4 * torch.randn(BATCH, FRAMES, FEATURES)
        began = time.perf_counter()
        optimizer.zero_grad()
        logits, _ = student(features, torch.full((BATCH,), FRAMES))
        nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
        gradients = {name: one.grad.detach() for name, one in student.named_parameters() if one.grad is not None}
        optimizer.step()
        if step == skip - 1:
            scale = float(torch.cat([one.flatten() for one in gradients.values()]).square().mean().sqrt())
            totals = [Totals(student, multiple * scale) for multiple in MULTIPLES]
        elif step >= skip:
            seconds += time.perf_counter() - began
            for one in totals:
                one.add(gradients)
    columns = [
        "threshold / RMS",
        "places",
        "words",
        "planes",
        "shorter",
        "entropy",
        "shorter / entropy",
        "of DDP",
        "ms",
    ]
    click.echo(text_table(columns, [one.row(multiple) for one, multiple in zip(totals, MULTIPLES, strict=True)]))
    click.echo(f"an update of {totals[0].size:,} parameters without compression: {1000 * seconds / updates:.1f} ms")


if __name__ == "__main__":
    main()
