"""Models as ONNX graphs, run by onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asrkd import fingerprint
from asrkd.acoustic.description import Description, description_path, read_description
from asrkd.acoustic.foreign_graphs import LAYOUTS, foreign, layouts_in_words
from asrkd.acoustic.foreign_graphs import described as read_front_end
from asrkd.acoustic.graph_front_ends import sherpa_front_end
from asrkd.acoustic.kinds import Request, kind
from asrkd.acoustic.model import AcousticModel, identity
from asrkd.errors import ModelError, one_line
from asrkd.extras import import_optional

INPUTS, OUTPUTS = ("features", "feature_lengths"), ("logits", "logit_lengths")
_FLOATS: dict[str, Any] = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
_WHOLE: dict[str, Any] = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


@kind(
    "onnx:PATH",
    "An ONNX graph for onnxruntime, described by PATH.json next to it; or of NeMo, icefall or sherpa-onnx, with tokens.txt.",
    in_torch=False,
)
def onnx(request: Request) -> AcousticModel:
    """A graph with the inputs `features` (N, T, F) and `feature_lengths` (N,), and the outputs `logits` and `logit_lengths`, or of a layout of another
    toolkit (`asrkd.acoustic.foreign_graphs`).

    `PATH.json` next to it describes it (`asrkd.acoustic.description`). Further outputs are not asked for; the inputs get the types that the
    graph declares; a graph for a batch of one is run on one utterance at a time.
    The fingerprint covers the graph and every file next to it whose name begins with the graph's (external weights).

    Raises:
        DependencyError: onnxruntime is not installed.
        ModelError: the graph or the description cannot be used.
    """
    spec, path, device = request.spec, request.path, request.device
    onnxruntime = import_optional("onnxruntime", f"model {spec!r} needs onnxruntime")
    if not path.is_file():
        raise ModelError(f"model {spec!r}: {str(path)!r} is not a file; give the graph, an .onnx file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # errors are raised; they need not be printed too
    provider = "CUDAExecutionProvider" if device.startswith("cuda") else "CPUExecutionProvider"
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # onnxruntime raises its own kinds
        raise ModelError(
            f"model {spec!r}: onnxruntime {onnxruntime.__version__} cannot load {str(path)!r} ({one_line(error)}); export the graph "
            "again, for this version, with its external weights next to it"
        ) from None
    inputs = {one.name: one for one in session.get_inputs()}
    if set(inputs) != set(INPUTS):
        return _foreign(spec, path, device, session)
    described = read_description(spec, path)
    _check_names(spec, session)
    types = _types(spec, inputs)
    one_by_one = _check_shapes(spec, inputs[INPUTS[0]].shape, session, described)

    def run(features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        fed = {
            INPUTS[0]: features.float().cpu().numpy().astype(types[0], copy=False),
            INPUTS[1]: lengths.cpu().numpy().astype(types[1], copy=False),
        }
        logits, out_lengths = session.run(list(OUTPUTS), fed)
        return torch.from_numpy(logits).to(device), torch.from_numpy(out_lengths).to(device)

    front_end, inventory, factor, log_prior, tokenizer = described
    return AcousticModel(
        run,
        front_end,
        inventory,
        factor,
        spec,
        identity(_weights(path), "onnx", front_end, inventory, factor),
        device,
        log_prior=log_prior,
        tokenizer=tokenizer,
        one_by_one=one_by_one,
    )


def _weights(path: Path) -> list[list[str]]:
    """Fingerprints of the graph and of its external weights."""
    files = sorted(file for file in path.parent.glob(f"{path.name}*") if file != description_path(path))
    return [[file.name[len(path.name) :], fingerprint.of_file(file)] for file in files]


def _foreign(spec: str, path: Path, device: str, session: Any) -> AcousticModel:
    """A graph in the layout of another toolkit."""
    inputs = session.get_inputs()
    names = tuple(one.name for one in inputs)
    if names not in LAYOUTS:
        raise ModelError(
            f"model {spec!r} has the inputs {', '.join(f'{one.name} {one.shape}' for one in inputs)}, but the layouts that are known are: "
            f"{layouts_in_words()}; export it with the names of one of them (a streaming graph with states is not a teacher)"
        )
    shape, channels_first = inputs[0].shape, LAYOUTS[names][1]
    if len(shape) != 3:
        raise ModelError(
            f"model {spec!r}: its input {names[0]!r} has the shape {shape}, but must have three axes; export it so"
        )
    types = _types(spec, {one.name: one for one in inputs}, names)
    size = shape[1 if channels_first else 2]
    front_end = read_front_end(path, spec) or sherpa_front_end(
        spec, session.get_modelmeta().custom_metadata_map, size if isinstance(size, int) else 80
    )
    [output, *_] = [one.name for one in session.get_outputs() if len(one.shape or ()) in (0, 3)] or [
        session.get_outputs()[0].name
    ]

    def run(features: Tensor, lengths: Tensor) -> Tensor:
        fed = {
            names[0]: features.numpy().astype(types[0], copy=False),
            names[1]: lengths.numpy().astype(types[1], copy=False),
        }
        [logits] = session.run([output], fed)
        return torch.from_numpy(logits).to(device)

    return foreign(spec, path, device, run, front_end, _weights(path), channels_first=channels_first)


def _check_names(spec: str, session: Any) -> None:
    inputs, outputs = [one.name for one in session.get_inputs()], [one.name for one in session.get_outputs()]
    if set(inputs) != set(INPUTS) or not set(OUTPUTS) <= set(outputs):
        raise ModelError(
            f"model {spec!r} maps {', '.join(inputs)} to {', '.join(outputs)}, but a model maps {', '.join(INPUTS)} to "
            f"{', '.join(OUTPUTS)}; export it with these names"
        )


def _types(spec: str, inputs: dict[str, Any], names: tuple[str, ...] = INPUTS) -> tuple[Any, Any]:
    """numpy's types of the two inputs."""
    found: list[Any] = []
    for name, known in zip(names, (_FLOATS, _WHOLE), strict=True):
        if inputs[name].type not in known:
            raise ModelError(
                f"model {spec!r}: its input {name!r} is a {inputs[name].type}, but must be one of {', '.join(known)}; export it so"
            )
        found.append(known[inputs[name].type])
    return found[0], found[1]


def _check_shapes(spec: str, shape: list[Any], session: Any, described: Description) -> bool:
    """Whether the graph takes one utterance at a time; numbers in a declared shape are fixed, names are free.

    Raises:
        ModelError: another size is fixed.
    """
    if len(shape) != 3:
        raise ModelError(
            f"model {spec!r}: its input 'features' has the shape {shape}, but must be (utterances, frames, features); export it so"
        )
    batch, frames, size = shape
    if isinstance(size, int) and size != described.front_end.feature_dim:
        raise ModelError(
            f"model {spec!r} takes {size} features a frame, but the front end next to it makes {described.front_end.feature_dim}; "
            "describe the front end that it was trained with (num_mels, stack)"
        )
    if isinstance(frames, int):
        raise ModelError(
            f"model {spec!r} takes {frames} frames and no other number, but utterances have any; export it with a dynamic time axis"
        )
    if isinstance(batch, int) and batch != 1:
        raise ModelError(
            f"model {spec!r} takes batches of {batch} utterances and no other number; export it with a dynamic batch axis, or for one utterance"
        )
    [logits] = [one.shape for one in session.get_outputs() if one.name == OUTPUTS[0]]
    if logits and isinstance(logits[-1], int) and logits[-1] != len(described.inventory):
        raise ModelError(
            f"model {spec!r} gives {logits[-1]} classes, but the inventory next to it has {len(described.inventory)} units; name each class once"
        )
    return batch == 1
