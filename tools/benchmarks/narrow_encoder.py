"""What narrowing an encoder costs before anything is trained: the error of its outputs on speech, next to other choices of as many units.

    python tools/benchmarks/narrow_encoder.py CUTS --encoder FOLDER [--units 1024 --units 640] [--utterances 16]

The encoder is that of `asrkd.models:WhisperStudent`, attention in chunks of 1.28 s. Errors are mean squares over the variance of what the whole encoder gives. The
references, in the same run: the units with the largest weights (norm of the input weights times that of the output weights) and units drawn at random.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import click
import torch
from torch import Tensor, nn

from asrkd.cli import run_command
from asrkd.corpus.cuts import open_cuts
from asrkd.corpus.front_end import FrontEnd
from asrkd.models import WhisperStudent
from asrkd.report.tables import text_table

CHUNK = 32


def encoder(name: str, layers: int, units: int | None = None) -> WhisperStudent:
    """Whose outputs are what its head would read."""
    model = WhisperStudent(320, 1, name, layers, chunk_frames=CHUNK, left_frames=2 * CHUNK, feedforward_dim=units)
    model.output = nn.Identity()  # type: ignore[assignment]
    return model.eval()


def with_units(name: str, layers: int, units: int, order: Callable[[Any], Tensor]) -> WhisperStudent:
    """The whole encoder in which only `units` of each layer are heard, those with the highest numbers of `order`."""
    model = encoder(name, layers)
    for layer in model.encoder.layers:
        layer.fc2.weight[:, order(layer).argsort(descending=True)[units:]] = 0.0
    return model


def weights(layer: Any) -> Tensor:
    return layer.fc1.weight.norm(dim=1) * layer.fc2.weight.norm(dim=0)  # type: ignore[no-any-return]


def drawn(layer: Any) -> Tensor:
    return torch.rand(layer.fc1.out_features, generator=torch.Generator().manual_seed(0))


@click.command(context_settings={"show_default": True})
@click.argument("cuts")
@click.option("--encoder", "name", required=True, help="As `model.args.name` of WhisperStudent.")
@click.option("--layers", default=4, type=click.IntRange(1))
@click.option("--units", "sizes", default=(1024, 640), type=click.IntRange(1), multiple=True, help="That are kept.")
@click.option("--utterances", default=16, type=click.IntRange(1), help="The first ones.")
@torch.no_grad()
def main(cuts: str, name: str, layers: int, sizes: tuple[int, ...], utterances: int) -> None:
    """Print the errors for each number of units."""
    torch.set_num_threads(1)
    front_end = FrontEnd.from_dict({"preset": "sherpa"})
    speech = [front_end(torch.from_numpy(cut.load_audio()[0])) for cut in itertools.islice(open_cuts(cuts), utterances)]

    def outputs(model: WhisperStudent) -> Tensor:
        return torch.cat([model(one[None], torch.tensor([len(one)]))[0][0] for one in speech])

    whole = outputs(encoder(name, layers))
    spread = (whole - whole.mean(dim=0)).square().mean()
    rows = []
    for units in sizes:
        models = [
            encoder(name, layers, units),
            *(with_units(name, layers, units, order) for order in (weights, drawn)),
        ]
        errors = [float((outputs(model) - whole).square().mean() / spread) for model in models]
        rows.append([str(units), *(f"{error:.3f}" for error in errors), f"{errors[1] / errors[0]:.2f}"])
    click.echo(text_table(["units", "narrowed", "largest weights", "at random", "ratio to largest"], rows))


if __name__ == "__main__":
    run_command(main)
