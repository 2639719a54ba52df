"""CTC models of NeMo, restored and run by the package itself."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asrkd.acoustic.kinds import Request, kind
from asrkd.acoustic.model import AcousticModel
from asrkd.acoustic.packages import Packaged, packaged, quiet
from asrkd.errors import ModelError, one_line
from asrkd.extras import import_optional
from asrkd.hub import model_folder

# A blank in NeMo's vocabularies of characters.
_SPACE = "<space>"


@kind(
    "nemo:PATH_OR_NAME",
    "A CTC or hybrid CTC model of NeMo (a .nemo file, or a name on the hub), by the package nemo-toolkit.",
)
def nemo(request: Request) -> AcousticModel:
    """A `.nemo` file, a folder with one, or a name on the Hugging Face hub.

    NeMo restores it: it reads the weights by `torch.load`, which unpickles tensors alone, and makes the classes that the file's config names.

    Raises:
        DependencyError: nemo-toolkit is not installed.
        ModelError: the model cannot be restored, has no CTC head, or its frames follow no frame law.
    """
    spec, device = request.spec, request.device
    with quiet():
        asr = import_optional("nemo.collections.asr", f"model {spec!r} needs nemo-toolkit", install="nemo-toolkit[asr]")
    path = _file(spec, request.argument)
    try:
        with quiet():
            model = asr.models.ASRModel.restore_from(str(path), map_location=torch.device(device))
    except Exception as error:  # whatever NeMo raises is the user's to see in one line
        raise ModelError(
            f"model {spec!r}: {str(path)!r} cannot be restored by NeMo ({one_line(error)[:400]})"
        ) from None
    decoder = _decoder(spec, model)
    model.eval()
    # As NeMo's own `transcribe` has them.
    for setting, value in (("dither", 0.0), ("pad_to", 0)):
        if hasattr(getattr(model.preprocessor, "featurizer", None), setting):
            setattr(model.preprocessor.featurizer, setting, value)

    def features(samples: Tensor) -> tuple[Tensor, int]:
        signal = samples.float().to(device)[None]
        made, lengths = model.preprocessor(input_signal=signal, length=torch.tensor([len(samples)], device=device))
        return made[0].T, int(lengths[0])

    def run(rows: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        encoded = model.encoder(audio_signal=rows.transpose(1, 2).contiguous(), length=lengths)
        return decoder(encoder_output=encoded[0]), encoded[1]

    labels = [_SPACE if token == " " else str(token) for token in decoder.vocabulary]
    config = {key: model.cfg.get(key) for key in ("preprocessor", "encoder")}
    # The blank is the last class, and has no name.
    found = Packaged(
        model,
        features,
        run,
        int(model.preprocessor._sample_rate),
        [*labels, ""],
        len(labels),
        json.loads(json.dumps(config, default=str, sort_keys=True)),
    )
    return packaged(spec, device, found)


def _file(spec: str, argument: str) -> Path:
    """The `.nemo` file."""
    path = Path(argument).expanduser()
    if path.is_file():
        return path
    if argument.endswith(".nemo"):
        raise ModelError(
            f"model {spec!r}: {argument!r} is not a file; give the .nemo file, a folder with it, or a name on the hub"
        )
    folder = model_folder(f"model {spec!r}", argument, lambda files: ["*.nemo"], "a model of NeMo")
    files = sorted(folder.glob("*.nemo"))
    if len(files) != 1:
        raise ModelError(f"model {spec!r}: {str(folder)!r} has {len(files)} .nemo files; give the one to take")
    return files[0]


def _decoder(spec: str, model: Any) -> Any:
    """The CTC head."""
    decoder = getattr(model, "ctc_decoder", None) or getattr(model, "decoder", None)
    if not hasattr(decoder, "num_classes_with_blank") or not hasattr(decoder, "decoder_layers"):
        raise ModelError(
            f"model {spec!r}: {type(model).__name__} has no CTC head, so it gives no posteriors of frames; give a CTC model, or a hybrid of RNN-T or TDT and CTC"
        )
    if any("prompt" in one for one in inspect.signature(model.forward).parameters):
        raise ModelError(
            f"model {spec!r}: {type(model).__name__} takes prompts, which are not given here; write a python: factory (docs/teachers.md)"
        )
    return decoder
