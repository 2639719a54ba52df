"""Lattice teachers: what a teacher believes once a lexicon and a grammar have had their say.

The posteriors are those of the classes at each frame given that the frames are one of the paths of a pruned lattice: the soft targets of
semi-supervised training with lattices (Manohar et al. 2018, section 3).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from asrkd import fingerprint
from asrkd.acoustic.kinds import Request, kind, read_settings
from asrkd.acoustic.model import AcousticModel
from asrkd.acoustic.trained import TrainedModel
from asrkd.config import check, setting
from asrkd.corpus.tokenizer import read_tokenizer
from asrkd.errors import ModelError
from asrkd.graphs import ForwardBackward, k2_graph, ngram_graph, word_loop_graph
from asrkd.sequence.grammar import why_no_penalty
from asrkd.sequence.lattice import Beam, occupancies

# (N, T, V) scores, (N,) lengths -> (N, T, V) probabilities of the classes.
Occupancies = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class LatticeSettings:
    """The YAML file of a lattice teacher."""

    teacher: str = setting()
    """Spec of the model whose scores make the lattices."""
    lexicon: str = setting()
    """The words that there may be."""
    grammar: str = ""
    """ARPA file, or a grammar of sentences (`NAME.fst.txt`); empty for a loop of the words."""
    prior: str = ""
    """Run whose priors an `hmm` model takes; empty for its own (of an ensemble: the mean of its members')."""
    acoustic_scale: float = setting(1.0, above=0)
    """Factor of the acoustic scores."""
    insertion_penalty: float = 0.0
    """Cost of every word in nats, without a grammar."""
    exact: bool = False
    """Count every path, without k2 (`asrkd.graphs.ForwardBackward`), which suits a loop of some thousands of words or a small grammar of sentences; otherwise k2 makes lattices and prunes them."""
    search_beam: float = setting(Beam.search, above=0)
    """Drop a state whose score is worse than the frame's best by more than this."""
    output_beam: float = setting(Beam.output, above=0)
    """Drop an arc that is on no path within this of the best."""
    max_active: int = setting(Beam.max_active, at_least=1)
    """Most states kept in a frame."""

    def __post_init__(self) -> None:
        check(self)

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if why := why_no_penalty(self.grammar or None, self.insertion_penalty):
            yield "insertion_penalty", why


@kind(
    "lattice:FILE",
    "A model's posteriors given that the words are those of a lexicon and grammar, by a YAML file (asrkd.acoustic.lattice.LatticeSettings).",
    of_models=True,
)
def lattice(request: Request) -> AcousticModel:
    """The model that the YAML file describes.

    It brings no priors: its posteriors are conditional on the words, and no search divides them again.

    Raises:
        ModelError: a file that cannot be used, or an `hmm` model without priors below it.
        DependencyError: k2 is not installed.
    """
    settings = read_settings(LatticeSettings, request.spec, request.path)
    below = request.member(settings.teacher)
    if settings.prior:
        try:
            below = dataclasses.replace(below, log_prior=TrainedModel.read(settings.prior).log_prior)
        except ModelError as error:
            raise ModelError(f"model {request.spec!r}: prior: {error}") from None
    try:
        below.check_prior()
    except ModelError as error:
        raise ModelError(f"model {request.spec!r}: {error}; or set prior to the folder of a run") from None
    lexicon = read_tokenizer(settings.lexicon)
    if settings.grammar:
        graph = ngram_graph(lexicon, below.inventory, settings.grammar)
    else:
        graph = word_loop_graph(lexicon, below.inventory, insertion_penalty=settings.insertion_penalty)
    pruning = [settings.search_beam, settings.output_beam, settings.max_active]
    identified = fingerprint.of_json(
        [
            "lattice",
            below.fingerprint,
            graph.fst.to_str(show_weight_one=True, fst_field_separator=" "),
            below.log_prior.tolist() if below.inventory.topology.needs_prior and below.log_prior is not None else None,
            settings.acoustic_scale,
            *(["exact"] if settings.exact else pruning),
        ]
    )
    device = torch.device(below.device)
    if settings.exact:
        occupied: Occupancies = ForwardBackward(graph, device)
    else:
        beam = Beam.of_search(settings.search_beam, settings.max_active, settings.output_beam)
        occupied = partial(occupancies, graphs=k2_graph(graph).to(device), beam=beam)
    return dataclasses.replace(
        below,
        network=Lattices(below, occupied, settings.acoustic_scale),
        spec=request.spec,
        fingerprint=identified,
        log_prior=None,
        one_by_one=False,
    )


class Lattices:
    """Log-occupancies of the classes in the lattices of a batch."""

    def __init__(self, below: AcousticModel, occupied: Occupancies, acoustic_scale: float) -> None:
        self.below, self.occupied, self.acoustic_scale = below, occupied, acoustic_scale

    def __call__(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        scores, out_lengths = self.below.scores(features, lengths, acoustic_scale=self.acoustic_scale)
        inside = torch.arange(scores.shape[1], device=scores.device)[None] < out_lengths[:, None]
        logits = torch.zeros_like(scores)
        heard = (out_lengths > 0).nonzero().flatten()
        if len(heard):
            logits[heard] = self._log_occupancies(scores[heard], out_lengths[heard])
        return logits.masked_fill(~inside[..., None], 0.0), out_lengths

    def _log_occupancies(self, scores: Tensor, lengths: Tensor) -> Tensor:
        found = self.occupied(scores, lengths)
        empty = int((found[:, 0].sum(dim=1) == 0).sum())
        if empty:
            raise ModelError(
                f"model {self.below.spec!r}: no path through the words of the lexicon survives for {empty} of {len(found)} "
                "utterances of a batch; widen search_beam and output_beam, raise max_active, or set exact"
            )
        # What rounding leaves of the sum 1 of each frame goes with the softmax.
        return found.clamp_min(0).log().to(scores.dtype)
