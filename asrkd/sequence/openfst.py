"""Graphs as OpenFst text and back, so that kaldi-decoder and k2 search one graph.

OpenFst's label 0 is epsilon and its weights are costs, so a class c has the label c + 1 there, and a score s the weight -s.
"""

from __future__ import annotations

from typing import Any

from asrkd.errors import ConfigError
from asrkd.sequence.dependency import import_k2


def from_openfst(text: str) -> Any:
    """A decoding graph from the text form of an OpenFst transducer (classes + 1 to words), with its epsilon arcs removed.

    Raises:
        ConfigError: the text is not a transducer.
    """
    k2 = import_k2()
    try:
        graph = k2.Fsa.from_openfst(text.strip(), acceptor=False)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"not the text of an OpenFst transducer: {str(error).strip().splitlines()[0]}") from None
    if bool((graph.labels == 0).any()):
        graph = k2.connect(k2.remove_epsilon(graph))
    labels = graph.labels.clone()
    labels[labels > 0] -= 1
    graph.labels = labels
    return k2.arc_sort(graph)


def to_openfst(graph: Any) -> str:
    """The text form of a decoding graph; an arc with several words becomes several, of which all but the first take no frame."""
    arcs = graph.arcs.values()[:, :3].tolist()
    words = graph.aux_labels
    outputs = words.tolist() if isinstance(words, import_k2().RaggedTensor) else [[word] for word in words.tolist()]
    number = graph.shape[0]
    lines: list[str] = []
    finals: list[str] = []
    for (source, target, label), own, score in zip(arcs, outputs, graph.scores.tolist()):  # noqa: B905
        said = [word for word in own if word > 0]
        if label == -1:
            # What is said on the way to the end is put on arcs without a frame.
            for word in said:
                lines.append(f"{source} {number} 0 {word} 0")
                source, number = number, number + 1
            finals.append(f"{source} {-score}")
            continue
        first, *rest = said or [0]
        for word in reversed(rest):
            lines.append(f"{number} {target} 0 {word} 0")
            target, number = number, number + 1
        lines.append(f"{source} {target} {label + 1} {first} {-score}")
    # OpenFst starts at the state of the first line.
    lines.sort(key=lambda line: not line.startswith("0 "))
    return "\n".join([*lines, *finals]) + "\n"
