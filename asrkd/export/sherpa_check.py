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
from asrkd.decoding.decode import MAX_ACTIVE, graph_decode
from asrkd.decoding.greedy import greedy_decode
from asrkd.errors import ModelError
from asrkd.export.onnx_export import log_mel_front_end
from asrkd.extras import import_optional
from asrkd.graphs import DecodingGraph

# Above this share of tokens that differ something is wrong; the last frames of utterances differ a little.
ALLOWED = 0.05


@dataclass
class Comparison:
    """Tokens, or words with a graph, of sherpa-onnx against asrkd's.

    Attributes:
        utterances, tokens, errors: counts; tokens are asrkd's.
        differing: (id, asrkd's, sherpa-onnx's) of utterances that differ.
    """

    utterances: int = 0
    tokens: int = 0
    errors: int = 0
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
        ctc_max_active=MAX_ACTIVE,
        **_features(folder),
    )


def offline_recognizer(folder: str | Path, *, graph: bool = False, model: str = "offline.onnx") -> Any:
    """sherpa-onnx's `OfflineRecognizer` of a folder, with its graph or greedy."""
    return import_sherpa().OfflineRecognizer.from_zipformer_ctc(
        model=str(Path(folder) / model),
        tokens=str(Path(folder) / "tokens.txt"),
        ctc_graph=str(Path(folder) / "HLG.fst") if graph else "",
        ctc_max_active=MAX_ACTIVE,
        **_features(folder),
    )


def _features(folder: str | Path) -> dict[str, int]:
    facts = json.loads((Path(folder) / "model.json").read_text(encoding="utf-8"))
    front_end = FrontEnd.from_dict(facts["front_end"])
    return {"sample_rate": front_end.sampling_rate, "feature_dim": front_end.num_mels}


def silence_behind(folder: str | Path) -> float:
    """Seconds of digital silence that sherpa-onnx must get after an utterance, so that it reads the utterance's last window; more change nothing."""
    facts = json.loads((Path(folder) / "model.json").read_text(encoding="utf-8"))
    seconds: float = facts["window_frames"] * facts["front_end"]["frame_shift_ms"] / 1000 + 0.1
    return seconds


def heard_online(
    recognizer: Any, samples: NDArray[np.float32], rate: int, silence: float, words: tuple[str, ...] | None
) -> list[str]:
    """The tokens of an utterance, or its words.

    Args:
        silence: seconds behind it.
        words: of the graph, where there is one.
    """
    stream = recognizer.create_stream()
    stream.accept_waveform(rate, samples)
    stream.accept_waveform(rate, np.zeros(int(silence * rate), dtype=np.float32))
    stream.input_finished()
    while recognizer.is_ready(stream):
        recognizer.decode_stream(stream)
    if words is None:
        return [_token(token) for token in recognizer.tokens(stream)]
    return [words[number] for number in json.loads(recognizer.get_result_as_json_string(stream))["words"]]


def heard_offline(recognizer: Any, samples: NDArray[np.float32], rate: int, words: tuple[str, ...] | None) -> list[str]:
    """As `heard_online`, of a whole utterance."""
    stream = recognizer.create_stream()
    stream.accept_waveform(rate, samples)
    recognizer.decode_stream(stream)
    if words is None:
        return [_token(token) for token in stream.result.tokens]
    return [words[number] for number in stream.result.words]


def _token(shown: str) -> str:
    return shown.replace(" ", WORD_BEGIN)  # sherpa-onnx shows that sign as a space


def compare_with_sherpa(
    folder: Path,
    model: AcousticModel,
    utterances: Iterable[tuple[str, NDArray[np.float32]]],
    *,
    graph: DecodingGraph | None = None,
    acoustic_scale: float = 1.0,
    blank_penalty: float = 0.0,
) -> dict[str, Comparison]:
    """Run sherpa-onnx on utterances, and asrkd's own search on the same.

    Args:
        folder: written by `export_sherpa`.
        utterances: id and samples at the model's sampling rate.

    Returns:
        By graph: `model.onnx`, and `offline.onnx` where it is there.

    Raises:
        ModelError: more than a few tokens differ.
    """
    front_end = log_mel_front_end(model)
    rate, silence, words = front_end.sampling_rate, silence_behind(folder), graph.words if graph else None
    online = online_recognizer(folder, graph=graph is not None)
    hearing = {"model.onnx": lambda samples: heard_online(online, samples, rate, silence, words)}
    if (folder / "offline.onnx").is_file():
        offline = offline_recognizer(folder, graph=graph is not None)
        hearing["offline.onnx"] = lambda samples: heard_offline(offline, samples, rate, words)
    found = {name: Comparison() for name in hearing}
    for key, samples in utterances:
        features = front_end(torch.from_numpy(samples))[None]
        scores, _ = model.scores(
            features,
            torch.tensor([features.shape[1]]),
            acoustic_scale=acoustic_scale,
            blank_penalty=blank_penalty,
        )
        if graph is None:
            expected = list(greedy_decode(scores[0].numpy(), model.inventory).words)
        else:
            expected = list(graph_decode(scores[0].numpy(), graph).words)
        for name, hear in hearing.items():
            heard, comparison = hear(samples), found[name]
            comparison.utterances += 1
            comparison.tokens += len(expected)
            if heard != expected:
                comparison.errors += kaldialign.edit_distance(expected, heard)["total"]
                comparison.differing.append((key, " ".join(expected), " ".join(heard)))
    for name, comparison in found.items():
        if comparison.errors > ALLOWED * max(comparison.tokens, 1):
            key, expected_text, heard_text = comparison.differing[0]
            raise ModelError(
                f"sherpa-onnx makes other tokens of {name} than asrkd of the model: {comparison.errors} of {comparison.tokens} differ, such as "
                f"{heard_text[:80]!r} in place of {expected_text[:80]!r} for {key!r}; digital silence within utterances may be the cause, which a stream "
                "takes for the end; otherwise please report it, with versions of both"
            )
    return found
