"""Teachers as ONNX graphs, run by onnxruntime."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from asrkd import fingerprint
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.waveform import front_end_from_dict
from asrkd.errors import AsrkdError, DependencyError, TeacherError
from asrkd.teachers.teacher import Teacher

INPUTS, OUTPUTS = ("features", "feature_lengths"), ("logits", "logit_lengths")


def onnx_teacher(spec: str, path: Path, device: str) -> Teacher:
    """A graph with the inputs `features` (N, T, F) and `feature_lengths` (N,), and the outputs `logits` and `logit_lengths`.

    `PATH.json` beside it has `front_end`, `inventory` (`units`, `topology`, `states_per_phone`) and `subsampling_factor`.
    The fingerprint covers the graph and every file beside it whose name begins with the graph's (external weights).

    Raises:
        DependencyError: onnxruntime is not installed.
        TeacherError: the graph or the description cannot be used.
    """
    try:
        import onnxruntime
    except ImportError:
        raise DependencyError(f"teacher {spec!r} needs onnxruntime: pip install 'asrkd[teachers]'") from None
    described = path.with_name(path.name + ".json")
    try:
        content = json.loads(described.read_text(encoding="utf-8"))
        front_end = front_end_from_dict(content["front_end"])
        given = content["inventory"]
        inventory = Inventory(tuple(given["units"]), given["topology"], int(given.get("states_per_phone", 1)))
        factor = int(content.get("subsampling_factor", 1))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        provider = "CUDAExecutionProvider" if device.startswith("cuda") else "CPUExecutionProvider"
        session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
    except OSError as error:
        raise TeacherError(f"teacher {spec!r}: {error.filename or path!r} cannot be read ({error.strerror})") from None
    except AsrkdError:
        raise
    except Exception as error:  # onnxruntime raises its own kinds
        text = " ".join(str(error).split())[:200]
        raise TeacherError(
            f"teacher {spec!r}: {str(path)!r} with {described.name!r} beside it cannot be used ({type(error).__name__}: {text}); "
            "the JSON file needs front_end, inventory and subsampling_factor"
        ) from None
    found = tuple(one.name for one in session.get_inputs()), tuple(one.name for one in session.get_outputs())
    if found != (INPUTS, OUTPUTS):
        raise TeacherError(
            f"teacher {spec!r} maps {', '.join(found[0])} to {', '.join(found[1])}, but a teacher maps {', '.join(INPUTS)} to "
            f"{', '.join(OUTPUTS)}; export it with these names"
        )

    def run(features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        fed = {INPUTS[0]: features.float().cpu().numpy(), INPUTS[1]: lengths.to(torch.int64).cpu().numpy()}
        logits, out_lengths = session.run(list(OUTPUTS), fed)
        return torch.from_numpy(logits).to(device), torch.from_numpy(out_lengths).to(device)

    files = sorted(file for file in path.parent.glob(f"{path.name}*") if file != described)
    weights = [[file.name[len(path.name) :], fingerprint.of_file(file)] for file in files]
    identity = fingerprint.of_json([weights, "onnx", front_end.fingerprint, inventory.fingerprint, factor])
    return Teacher(run, front_end, inventory, factor, spec, identity, device)
