"""What sherpa-onnx makes of a folder, next to what asrkd makes of the model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kaldialign
import numpy as np
import torch
from numpy.typing import NDArray

from asrkd.acoustic import AcousticModel
from asrkd.corpus.characters import WORD_BEGIN
from asrkd.corpus.front_end import FrontEnd
from asrkd.decoding.decode import graph_decode
from asrkd.decoding.greedy import greedy_decode
from asrkd.errors import ModelError
from asrkd.export.onnx_export import log_mel_front_end
from asrkd.extras import import_optional
from asrkd.graphs import DecodingGraph

# Beam and states a frame of sherpa-onnx's search.
_BEAM, _MAX_ACTIVE = 16.0, 3000
# Above this share of tokens that differ something is wrong; the ends of utterances may differ.
ALLOWED = 0.05


@dataclass
class Comparison:
    """Tokens, or words with a graph, of sherpa-onnx against asrkd's.

    Attributes:
        utterances, tokens, errors: counts; tokens are asrkd's.
        unexplained: errors that remain where asrkd, too, reads silence behind the utterance and stops where sherpa-onnx does.
        differing: (id, asrkd's, sherpa-onnx's) of utterances that differ.
    """

    utterances: int = 0
    tokens: int = 0
    errors: int = 0
    unexplained: int = 0
    differing: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of tokens that differ."""
        return self.errors / max(self.tokens, 1)


def import_sherpa() -> Any:
    """The package.

    Raises:
        DependencyError: it is not installed.
    """
    return import_optional("sherpa_onnx", "exporting for sherpa-onnx needs it, to try what was written")


def online_recognizer(folder: str | Path, *, graph: bool = False, model: str = "model.onnx") -> Any:
    """sherpa-onnx's `OnlineRecognizer` of a folder, with its graph or greedy."""
    return import_sherpa().OnlineRecognizer.from_zipformer2_ctc(
        tokens=str(Path(folder) / "tokens.txt"),
        model=str(Path(folder) / model),
        num_threads=1,
        ctc_graph=str(Path(folder) / "HLG.fst") if graph else "",
        ctc_max_active=_MAX_ACTIVE,
        **_features(folder),
    )


def offline_recognizer(folder: str | Path, *, graph: bool = False, model: str = "offline.onnx") -> Any:
    """sherpa-onnx's `OfflineRecognizer` of a folder, with its graph or greedy."""
    return import_sherpa().OfflineRecognizer.from_zipformer_ctc(
        model=str(Path(folder) / model),
        tokens=str(Path(folder) / "tokens.txt"),
        ctc_graph=str(Path(folder) / "HLG.fst") if graph else "",
        ctc_max_active=_MAX_ACTIVE,
        **_features(folder),
    )


def _features(folder: str | Path) -> dict[str, int]:
    facts = json.loads((Path(folder) / "model.json").read_text(encoding="utf-8"))
    front_end = FrontEnd.from_dict(facts["front_end"])
    return {"sample_rate": front_end.sampling_rate, "feature_dim": front_end.num_mels}


def heard_online(
    recognizer: Any, samples: NDArray[np.float32], rate: int, tail: float, words: tuple[str, ...] | None
) -> list[str]:
    """The tokens of an utterance, or its words.

    Args:
        tail: seconds of silence behind it.
        words: of the graph, where there is one.
    """
    stream = recognizer.create_stream()
    stream.accept_waveform(rate, samples)
    stream.accept_waveform(rate, np.zeros(int(tail * rate), dtype=np.float32))
    stream.input_finished()
    while recognizer.is_ready(stream):
        recognizer.decode_stream(stream)
    if words is None:
        return [
            token.replace(" ", WORD_BEGIN) for token in recognizer.tokens(stream)
        ]  # sherpa-onnx shows that sign as a space
    return [words[number] for number in json.loads(recognizer.get_result_as_json_string(stream))["words"]]


def compare_with_sherpa(
    folder: Path,
    model: AcousticModel,
    utterances: Iterable[tuple[str, NDArray[np.float32]]],
    *,
    graph: DecodingGraph | None = None,
    acoustic_scale: float = 1.0,
    file: str = "model.onnx",
) -> Comparison:
    """Run sherpa-onnx on utterances, and asrkd's own search on the same.

    Args:
        folder: written by `export_sherpa`.
        utterances: id and samples at the model's sampling rate.

    Raises:
        ModelError: more than a few tokens differ.
    """
    front_end = log_mel_front_end(model)
    recognizer = online_recognizer(folder, graph=graph is not None, model=file)
    facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    delay, window = facts["stream"]["output_delay"], facts["window_frames"]
    frame = front_end.frame_shift_ms * front_end.stride / 1000
    tail = delay * frame + window * front_end.frame_shift_ms / 1000 + 0.1

    def searched(audio: NDArray[np.float32], rows: int | None = None) -> list[str]:
        features = front_end(torch.from_numpy(audio))[None]
        scores, _ = model.scores(features, torch.tensor([features.shape[1]]), acoustic_scale=acoustic_scale)
        frames = scores[0, :rows].numpy()
        if graph is None:
            return list(greedy_decode(frames, model.inventory).words)
        return list(graph_decode(frames, graph, beam=_BEAM, max_active=_MAX_ACTIVE).words)

    found = Comparison()
    for key, samples in utterances:
        expected = searched(samples)
        heard = heard_online(recognizer, samples, front_end.sampling_rate, tail, graph.words if graph else None)
        found.utterances += 1
        found.tokens += len(expected)
        if heard == expected:
            continue
        found.errors += kaldialign.edit_distance(expected, heard)["total"]
        found.differing.append((key, " ".join(expected), " ".join(heard)))
        longer = np.concatenate([samples, np.zeros(int(tail * front_end.sampling_rate), dtype=np.float32)])
        # A chunk is decoded while more than its frames are there; its last rows are those of `delay` rows before.
        chunks = (front_end.frame_law().num_windows(len(longer)) - 1) // window
        alike = searched(longer, chunks * window // front_end.stack - delay)
        found.unexplained += kaldialign.edit_distance(alike, heard)["total"]
    if found.unexplained > ALLOWED * max(found.tokens, 1):
        key, expected_text, heard_text = found.differing[0]
        raise ModelError(
            f"sherpa-onnx makes other tokens of {file} than asrkd of the model: {found.unexplained} of {found.tokens} differ, such as "
            f"{heard_text[:80]!r} in place of {expected_text[:80]!r} for {key!r}; please report it, with versions of both"
        )
    return found
