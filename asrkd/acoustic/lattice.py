"""Lattice teachers: what a teacher believes once a lexicon and a grammar have had their say.

The posteriors are those of the classes at each frame given that the frames are one of the paths of a pruned lattice: the soft targets of
semi-supervised training with lattices (Manohar et al. 2018, section 3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor

from asrkd import fingerprint
from asrkd.acoustic.ensemble import read_ensemble
from asrkd.acoustic.model import AcousticModel
from asrkd.corpus.tokenizer import read_tokenizer
from asrkd.errors import ModelError
from asrkd.graphs import ForwardBackward, k2_graph, ngram_graph, word_loop_graph
from asrkd.sequence.lattice import Beam, occupancies

# (N, T, V) scores, (N,) lengths -> (N, T, V) probabilities of the classes.
Occupancies = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class LatticeSettings:
    """The YAML file of a lattice teacher.

    Attributes:
        teacher: spec of the teacher whose scores make the lattices.
        lexicon: the words that there may be.
        grammar: ARPA file; empty for a loop of the words.
        prior: the run whose priors an `hmm` teacher takes; empty for its own (of an ensemble: the mean of its members').
        acoustic_scale: multiplies the acoustic scores.
        insertion_penalty: cost of every word, without a grammar.
        exact: every path counts and k2 is not needed (`asrkd.graphs.ForwardBackward`), which suits a loop of some hundreds of words; otherwise
            lattices are made by k2 and pruned.
        search_beam, output_beam, max_active: how far.
    """

    teacher: str
    lexicon: str
    grammar: str = ""
    prior: str = ""
    acoustic_scale: float = 1.0
    insertion_penalty: float = 0.0
    exact: bool = False
    search_beam: float = 20.0
    output_beam: float = 8.0
    max_active: int = 10000


def lattice_teacher(spec: str, path: Path, load: Callable[[str], AcousticModel]) -> AcousticModel:
    """The teacher that the YAML file describes; `load` loads the one below it.

    Raises:
        ModelError: a file that cannot be used, or an `hmm` teacher without priors.
        DependencyError: k2 is not installed.
    """
    try:
        settings = LatticeSettings(**yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ModelError(f"model {spec!r}: {str(path)!r} cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, TypeError) as error:
        names = ", ".join(LatticeSettings.__dataclass_fields__)
        raise ModelError(
            f"model {spec!r}: {str(path)!r} cannot be used ({' '.join(str(error).split())}); it may hold {names}"
        ) from None
    if not settings.acoustic_scale > 0:
        raise ModelError(f"model {spec!r}: acoustic_scale is {settings.acoustic_scale}, but must be above 0")
    below = load(settings.teacher)
    lexicon = read_tokenizer(settings.lexicon)
    if settings.grammar:
        graph = ngram_graph(lexicon, below.inventory, settings.grammar)
    else:
        graph = word_loop_graph(lexicon, below.inventory, insertion_penalty=settings.insertion_penalty)
    text = graph.fst.to_str(show_weight_one=True, fst_field_separator=" ")
    prior = _prior(spec, settings) if below.inventory.topology.needs_prior else None
    pruning = [settings.search_beam, settings.output_beam, settings.max_active]
    identity = fingerprint.of_json(
        [
            "lattice",
            below.fingerprint,
            text,
            None if prior is None else prior.tolist(),
            settings.acoustic_scale,
            *(["exact"] if settings.exact else pruning),
        ]
    )
    device = torch.device(below.device)
    if settings.exact:
        occupied: Occupancies = ForwardBackward(graph, device)
    else:
        beam = Beam(settings.search_beam, settings.output_beam, min(30, settings.max_active - 1), settings.max_active)
        occupied = partial(occupancies, graphs=k2_graph(graph).to(device), beam=beam)
    model = Lattices(below, occupied, prior, settings.acoustic_scale)
    return AcousticModel(
        model,
        below.front_end,
        below.inventory,
        below.subsampling_factor,
        spec,
        identity,
        below.device,
        below.autocast,
        own=below.own,
    )


def _prior(spec: str, settings: LatticeSettings) -> np.ndarray:
    """(V,) log-priors: of the run that is named, of the teacher itself, or of its members, each with its weight."""
    if settings.prior:
        return _prior_of(spec, Path(settings.prior))
    kind, _, rest = settings.teacher.partition(":")
    if kind in ("checkpoint", "int8"):
        return _prior_of(spec, Path(rest))
    members = read_ensemble(settings.teacher, Path(rest)) if kind == "ensemble" else None
    if members is None or any(one.partition(":")[0] not in ("checkpoint", "int8") for one in members.specs):
        raise ModelError(
            f"model {spec!r}: {settings.teacher!r} is an 'hmm' teacher without priors of its own; set prior to the folder of a run"
        )
    priors = [np.exp(_prior_of(spec, Path(one.partition(":")[2]))) for one in members.specs]
    return np.log(np.average(priors, axis=0, weights=members.weights)).astype(np.float32)


def _prior_of(spec: str, path: Path) -> np.ndarray:
    try:
        content = torch.load(path / "final.pt" if path.is_dir() else path, map_location="cpu", weights_only=True)
        return content["log_prior"].numpy()
    except Exception as error:
        raise ModelError(
            f"model {spec!r}: {str(path)!r} gives no priors ({type(error).__name__}: {' '.join(str(error).split())[:200]}); give a finished run"
        ) from None


class Lattices:
    """Log-occupancies of the classes in the lattices of a batch."""

    def __init__(self, below: AcousticModel, occupied: Occupancies, prior: np.ndarray | None, scale: float) -> None:
        self.below, self.occupied, self.scale = below, occupied, scale
        self.prior = None if prior is None else torch.from_numpy(prior).to(below.device)

    def __call__(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        log_probs, out_lengths = self.below.log_probs(features, lengths)
        scores = self.scale * (log_probs if self.prior is None else log_probs - self.prior)
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
                f"teacher {self.below.spec!r}: no path through the words of the lexicon survives for {empty} of {len(found)} "
                "utterances of a batch; widen search_beam and output_beam, raise max_active, or set exact"
            )
        # What rounding leaves of the sum 1 of each frame goes with the softmax.
        return found.clamp_min(0).log().to(scores.dtype)
