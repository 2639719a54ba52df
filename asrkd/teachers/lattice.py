"""Lattice teachers: what a teacher believes once a lexicon and a grammar have had their say.

The posteriors are those of the classes at each frame given that the frames are one of the paths of a pruned lattice: the soft targets of
semi-supervised training with lattices (Manohar et al. 2018, section 3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from asrkd import fingerprint
from asrkd.corpus.lexicon import Lexicon
from asrkd.errors import TeacherError
from asrkd.graphs import k2_graph, ngram_graph, word_loop_graph
from asrkd.sequence.lattice import Beam, occupancies
from asrkd.teachers.teacher import Teacher


@dataclass(frozen=True)
class LatticeSettings:
    """The YAML file of a lattice teacher.

    Attributes:
        teacher: spec of the teacher whose scores make the lattices.
        lexicon: the words that there may be.
        grammar: ARPA file; empty for a loop of the words.
        prior: the run whose priors an `hmm` teacher takes; empty for its own, if it is a checkpoint.
        acoustic_scale: multiplies the acoustic scores.
        insertion_penalty: cost of every word, without a grammar.
        search_beam, output_beam, max_active: how far the lattices are pruned.
    """

    teacher: str
    lexicon: str
    grammar: str = ""
    prior: str = ""
    acoustic_scale: float = 1.0
    insertion_penalty: float = 0.0
    search_beam: float = 20.0
    output_beam: float = 8.0
    max_active: int = 10000


def lattice_teacher(spec: str, path: Path, load: Callable[[str], Teacher]) -> Teacher:
    """The teacher that the YAML file describes; `load` loads the one below it.

    Raises:
        TeacherError: a file that cannot be used, or an `hmm` teacher without priors.
        DependencyError: k2 is not installed.
    """
    try:
        settings = LatticeSettings(**yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise TeacherError(f"teacher {spec!r}: {str(path)!r} cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, TypeError) as error:
        names = ", ".join(LatticeSettings.__dataclass_fields__)
        raise TeacherError(
            f"teacher {spec!r}: {str(path)!r} cannot be used ({' '.join(str(error).split())}); it may hold {names}"
        ) from None
    if not settings.acoustic_scale > 0:
        raise TeacherError(f"teacher {spec!r}: acoustic_scale is {settings.acoustic_scale}, but must be above 0")
    below = load(settings.teacher)
    lexicon = Lexicon.read(settings.lexicon)
    if settings.grammar:
        graph = ngram_graph(lexicon, below.inventory, settings.grammar)
    else:
        graph = word_loop_graph(lexicon, below.inventory, insertion_penalty=settings.insertion_penalty)
    text = graph.fst.to_str(show_weight_one=True, fst_field_separator=" ")
    prior = _prior(spec, settings, below)
    beam = Beam(settings.search_beam, settings.output_beam, min(30, settings.max_active - 1), settings.max_active)
    identity = fingerprint.of_json(
        [
            "lattice",
            below.fingerprint,
            text,
            None if prior is None else prior.tolist(),
            settings.acoustic_scale,
            settings.search_beam,
            settings.output_beam,
            settings.max_active,
        ]
    )
    model = _Lattices(below, k2_graph(graph).to(torch.device(below.device)), prior, settings.acoustic_scale, beam)
    return Teacher(
        model, below.front_end, below.inventory, below.subsampling_factor, spec, identity, below.device, below.autocast
    )


def _prior(spec: str, settings: LatticeSettings, below: Teacher) -> np.ndarray | None:
    if below.inventory.topology == "ctc":
        return None
    kind, _, rest = settings.teacher.partition(":")
    if not settings.prior and kind != "checkpoint":
        raise TeacherError(
            f"teacher {spec!r}: {settings.teacher!r} is an 'hmm' teacher without priors of its own; set prior to the folder of a run"
        )
    path = Path(settings.prior or rest)
    try:
        content = torch.load(path / "final.pt" if path.is_dir() else path, map_location="cpu", weights_only=True)
        return content["log_prior"].numpy()
    except Exception as error:
        raise TeacherError(
            f"teacher {spec!r}: {str(path)!r} gives no priors ({type(error).__name__}: {' '.join(str(error).split())[:200]}); give a finished run"
        ) from None


class _Lattices:
    """Log-occupancies of the classes in the lattices of a batch."""

    def __init__(self, below: Teacher, graph: Any, prior: np.ndarray | None, scale: float, beam: Beam) -> None:
        self.below, self.graph, self.scale, self.beam = below, graph, scale, beam
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
        found = occupancies(scores, lengths, self.graph, beam=self.beam)
        empty = int((found[:, 0].sum(dim=1) == 0).sum())
        if empty:
            raise TeacherError(
                f"teacher {self.below.spec!r}: no path through the words of the lexicon survives for {empty} of {len(found)} "
                "utterances of a batch; widen search_beam and output_beam, or raise max_active"
            )
        # What rounding leaves of the sum 1 of each frame goes with the softmax.
        return found.clamp_min(0).log()
