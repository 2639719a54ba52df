"""What `asrkd train` costs beyond the model: a training against a bare loop with the same batches, model and optimizer, in turns.

    python tools/benchmarks/training.py [--updates 40] [--model tdnn] [--device cuda:0]

After each update of a training on stored features and soft targets, a bare loop makes the same update on a copy of the model: forward pass, soft
cross-entropy, backward pass, clipping, AdamW. It gets the batch from memory, on the device; the training reads it from Parquet in its thread, watches for
losses that are not finite, averages the weights and writes its log. Prints CPU time a frame (with a GPU the wall clock) of both, what of it is
reading, and their ratio with and without reading, for the TDNN of recipes/arabic_commands, the study's LSTM and an Emformer: 1 means that a
training costs nothing beyond the model. On a GPU reading is in threads and processes of its own, and counts only where the device waits.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from asrkd.config import from_dict
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.losses.soft import soft_cross_entropy
from asrkd.store import Identity, manifest
from asrkd.store.files import Files
from asrkd.store.writer import write_shard
from asrkd.streaming.batch import Batch
from asrkd.targets.codecs import parse_codec
from asrkd.targets.streams import POSTERIORS
from asrkd.training.callback import Callback
from asrkd.training.config import TrainConfig
from asrkd.training.optimizer import make_optimizer
from asrkd.training.trainer import Trainer

# Front end, phones of three states, factory, its arguments, frames of a batch.
MODELS: dict[str, tuple[dict[str, Any], int, str, dict[str, Any], int]] = {
    "tdnn": (
        {"mean_norm": "causal"},
        20,
        "TDNNStudent",
        {"hidden_dim": 128, "dilations": [1, 1, 2, 3, 4, 5], "output_delay": 5},
        2000,
    ),
    "lstm": ({"mean_norm": "causal"}, 1061, "LSTMStudent", {"hidden_dim": 768, "num_layers": 5}, 1000),
    "emformer": ({"mean_norm": "causal"}, 160, "EmformerStudent", {}, 1000),
}
# Updates before the measurement.
WARM_UP = 3


def write_corpus(folder: Path, front_end: FrontEnd, phones: int, seconds: float) -> None:
    """A lexicon of N phones, and a store of features and `topk:20` targets over their states."""
    rng = np.random.default_rng(0)
    (folder / "lexicon.txt").write_text("".join(f"W{number} P{number}\n" for number in range(phones)))
    inventory = inventory_of(folder, "hmm")
    codec = parse_codec("topk:20")
    identity = Identity(
        teacher="benchmark",
        teacher_fingerprint="0" * 32,
        streams={POSTERIORS: codec},
        inventory=inventory,
        front_end=front_end,
        embed="features",
    )
    rows: list[dict[str, Any]] = []
    while sum(row["duration"] for row in rows) < seconds:
        count = int(16000 * rng.uniform(1, 15))
        frames = front_end.frame_law().num_frames(count)
        scores = torch.from_numpy(rng.standard_normal((frames, len(inventory))).astype(np.float32)) * 3
        features = rng.standard_normal((frames, front_end.feature_dim)).astype(np.float32)
        row = {"id": f"u{len(rows)}", "recording_id": f"u{len(rows)}", "start": 0.0, "duration": count / 16000}
        row |= {"sampling_rate": 16000, "num_samples": count, "num_frames": frames, "features": features.tobytes()}
        rows.append(row | codec.layout(len(inventory)).pack(codec.encode(scores.log_softmax(dim=-1))))
    files = Files(str(folder / "store"))
    manifest.create(files, identity, {"num_units": 1, "num_cuts": len(rows), "hours": seconds / 3600})
    write_shard(files, 0, rows, identity)


def inventory_of(folder: Path, topology: str) -> Inventory:
    from asrkd.corpus.tokenizer import read_tokenizer

    return Inventory.from_lexicon(read_tokenizer(str(folder / "lexicon.txt")), topology, states_per_phone=3)


class Bare(Callback):
    """Repeats each update on a copy of the model, and notes how long both took.

    Attributes:
        seconds: of the training and of the bare loop.
        reading: seconds of the training that its other threads took.
        frames: of both.
    """

    def __init__(self) -> None:
        self.seconds, self.reading, self.frames = [0.0, 0.0], 0.0, 0
        self._gpu = False

    def begin(self, trainer: Trainer) -> None:
        self._gpu = trainer.device.type == "cuda"
        self._model = copy.deepcopy(trainer.model).train()
        self._optimizer = make_optimizer(self._model, trainer.config.optimizer)
        self._since, self._thread = self._now(), time.thread_time()

    def update(self, trainer: Trainer, batches: Sequence[Batch], losses: Sequence[dict[str, float]]) -> None:
        [batch] = [one.to(trainer.device) for one in batches]
        began = self._now()
        # The other threads of this process belong to the training.
        thread = time.thread_time()
        self._optimizer.zero_grad(set_to_none=True)
        logits, lengths = self._model(batch.features, batch.feature_lengths)
        mask = torch.arange(logits.shape[1], device=logits.device)[None] < lengths[:, None]
        loss = soft_cross_entropy(logits[mask], batch.targets) / int(batch.num_frames.sum())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), trainer.config.optimizer.clip_norm)
        self._optimizer.step()
        if self._gpu:
            torch.cuda.synchronize()
        bare = self._now() - began if self._gpu else time.thread_time() - thread
        if trainer.step > WARM_UP:
            self.seconds[1] += bare
            self.frames += int(batch.num_frames.sum())
            self.seconds[0] += self._now() - self._since - bare
            if not self._gpu:
                self.reading += self._now() - self._since - (time.thread_time() - self._thread)
        self._since, self._thread = self._now(), time.thread_time()

    def _now(self) -> float:
        """CPU seconds of this process, or with a GPU, which computes on its own, those of the clock."""
        return time.perf_counter() if self._gpu else time.process_time()


def measure(name: str, updates: int, device: str) -> Bare:
    settings, phones, factory, arguments, max_frames = MODELS[name]
    with tempfile.TemporaryDirectory(prefix="asrkd-benchmark-") as root:
        folder = Path(root)
        write_corpus(folder, FrontEnd.from_dict(settings), phones, seconds=600)
        values = {
            "run": str(folder / "run"),
            "device": device,
            "threads": 1,
            "front_end": settings,
            "inventory": {"lexicon": str(folder / "lexicon.txt"), "topology": "hmm", "states_per_phone": 3},
            "model": {"factory": f"asrkd.models:{factory}", "args": arguments},
            "sources": {"soft": {"store": str(folder / "store"), "kind": "soft"}},
            "schedule": [{"steps": updates + WARM_UP, "mixture": {"soft": 1}}],
            "batch": {"max_frames": max_frames, "max_utterances": 64},
            "loader": {"cache_mb": 0},
            "eval_steps": 10,
            "checkpoint_steps": 10_000,
        }
        bare = Bare()
        Trainer(from_dict(TrainConfig, values), callbacks=[bare]).train(stop_at=updates + WARM_UP)
        return bare


@click.command(context_settings={"show_default": True})
@click.option("--updates", default=40)
@click.option("--model", "models", multiple=True, type=click.Choice(sorted(MODELS)), default=tuple(MODELS))
@click.option("--device", default="cpu")
def main(updates: int, models: tuple[str, ...], device: str) -> None:
    """Print both times and their ratio."""
    torch.set_num_threads(1)
    click.echo(
        f"{'model':10} {'asrkd train':>12} {'reading':>8} {'bare loop':>10} {'ratio':>6} {'without reading':>16}   microseconds a frame, {device}"
    )
    for name in models:
        bare = measure(name, updates, device)
        train, alone = (1e6 * seconds / bare.frames for seconds in bare.seconds)
        reading = 1e6 * bare.reading / bare.frames
        click.echo(
            f"{name:10} {train:12.1f} {reading:8.1f} {alone:10.1f} {alone / train:6.3f} {alone / (train - reading):16.3f}"
        )


if __name__ == "__main__":
    main()
