"""CTC models of FunASR, built and run by the package itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asrkd.acoustic.hub import split_name
from asrkd.acoustic.kinds import Request, kind
from asrkd.acoustic.model import AcousticModel
from asrkd.acoustic.packages import Packaged, packaged, quiet
from asrkd.errors import ModelError, one_line
from asrkd.extras import import_optional
from asrkd.hub import model_folder

_Run = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
_NEEDED = ("config.yaml", "model.pt")
# Frames that SenseVoice puts before the first of the audio: language, event, emotion, text normalization.
_QUERIES = 4


@kind(
    "funasr:PATH_OR_NAME",
    "A CTC model of FunASR (SenseVoice, Conformer, Paraformer with a CTC head, ...), by the package funasr; ?language=en for SenseVoice.",
)
def funasr(request: Request) -> AcousticModel:
    """A folder that FunASR trained or that was downloaded, or a name on the Hugging Face hub.

    Code that comes with a model is not run. Its dither is off, so that targets can be made again.

    Raises:
        DependencyError: funasr is not installed.
        ModelError: the model cannot be loaded, has no CTC head, or its frames follow no frame law.
    """
    spec, device = request.spec, request.device
    with quiet():
        import_optional("funasr", f"model {spec!r} needs funasr", install="funasr")
    name, chosen = split_name(spec, request.argument, ("language",))
    folder = model_folder(f"model {spec!r}", name, lambda files: ["*"], "a model of FunASR")
    if missing := [file for file in _NEEDED if not (folder / file).is_file()]:
        raise ModelError(
            f"model {spec!r}: {name!r} has no {missing[0]}, so it is not a model of FunASR; give the folder that FunASR wrote or downloaded"
        )
    try:
        with quiet():
            from funasr.auto.auto_model import AutoModel

            model, settings = AutoModel.build_model(
                model=str(folder),
                device=device,
                trust_remote_code=False,
                disable_update=True,
                check_latest=False,
                ncpu=torch.get_num_threads(),
            )
    except Exception as error:  # whatever FunASR raises is the user's to see in one line
        raise ModelError(f"model {spec!r}: {name!r} cannot be loaded by funasr ({one_line(error)[:400]})") from None
    run = _run(spec, model, chosen.get("language", ""))
    _check_weights(spec, name, folder, model)
    front_end = settings.get("frontend")
    if front_end is None:
        raise ModelError(
            f"model {spec!r}: {name!r} names no frontend in config.yaml, so how samples become its input is not known"
        )
    front_end.dither = 0.0

    def features(samples: Tensor) -> tuple[Tensor, int]:
        made, lengths = front_end(samples.cpu().float()[None], torch.tensor([len(samples)]))
        return made[0].float().to(device), int(lengths[0])

    code = {key: settings.get(key) for key in ("frontend", "frontend_conf", "encoder", "encoder_conf", "model")}
    code |= {"frontend": type(front_end).__name__, "cmvn": _cmvn(front_end), "dither": 0.0} | chosen
    return packaged(
        spec,
        device,
        Packaged(
            model,
            features,
            run,
            int(getattr(front_end, "fs", 16000)),
            _labels(spec, settings.get("tokenizer")),
            int(model.blank_id),
            json.loads(json.dumps(code, default=str, sort_keys=True)),
        ),
    )


def _run(spec: str, model: Any, language: str) -> _Run:
    """Features to logits, as the model's own inference computes them before its search."""
    kinds = [one.__name__ for one in type(model).__mro__]
    senses = "SenseVoiceSmall" in kinds
    if getattr(model, "ctc", None) is None or not (senses or {"Transformer", "Paraformer"} & set(kinds)):
        raise ModelError(
            f"model {spec!r}: {type(model).__name__} of FunASR has no CTC head that gives posteriors of frames; give a model with one (SenseVoiceSmall, or "
            "a Conformer, Branchformer, SANM or Paraformer with ctc_weight above 0), or label with its text"
        )
    if language and not senses:
        raise ModelError(f"model {spec!r}: {type(model).__name__} takes no language; leave out ?language={language}")
    if senses and language and language not in model.lid_dict:
        raise ModelError(
            f"model {spec!r}: language {language!r} is not one of its {', '.join(model.lid_dict)}; give one of them"
        )

    def encoded(features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        made, frames = model.encode(features, lengths)
        logits: Tensor = model.ctc.ctc_lo(made[0] if isinstance(made, tuple) else made)
        return logits, frames

    def prompted(features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `SenseVoiceSmall.inference`, whose text is not normalized (woitn)."""
        if model.normalize is not None:
            features, lengths = model.normalize(features, lengths)
        queries = [model.lid_dict[language or "auto"], 1, 2, model.textnorm_dict["woitn"]]
        before = model.embed(torch.tensor([queries], device=features.device)).repeat(len(features), 1, 1)
        made = model.encoder(torch.cat([before, features], dim=1), lengths + _QUERIES)
        hidden = made[0][0] if isinstance(made[0], tuple) else made[0]
        logits: Tensor = model.ctc.ctc_lo(hidden[:, _QUERIES:])
        return logits, made[1] - _QUERIES

    return prompted if senses else encoded


def _labels(spec: str, tokenizer: Any) -> list[str]:
    """The token of each class."""
    names = getattr(tokenizer, "token_list", None)
    if names is None and hasattr(tokenizer, "get_vocab_size"):
        size = tokenizer.get_vocab_size()
        names = [tokenizer.sp.id_to_piece(number) for number in range(size)] if hasattr(tokenizer, "sp") else None
    if names is None:
        raise ModelError(
            f"model {spec!r}: its tokenizer ({type(tokenizer).__name__}) does not list its tokens, so its classes have no names; give a model with a token list or a bpemodel"
        )
    return list(names)


def _check_weights(spec: str, name: str, folder: Path, model: torch.nn.Module) -> None:
    """Raise `ModelError` where FunASR, which only warns, left weights of the encoder or the head at random."""
    state = torch.load(folder / "model.pt", map_location="cpu", weights_only=True, mmap=True)
    for key in ("state_dict", "model_state_dict", "model"):
        state = state[key] if key in state else state
    loaded = {key.removeprefix("module."): value for key, value in state.items()}
    missing = [
        key
        for key, value in model.state_dict().items()
        if key.startswith(("encoder.", "ctc.", "embed.")) and getattr(loaded.get(key), "shape", None) != value.shape
    ]
    if missing:
        raise ModelError(
            f"model {spec!r}: model.pt of {name!r} has no {missing[0]!r} of the shape that config.yaml says{f', and {len(missing) - 1} more' if missing[1:] else ''}, which FunASR would "
            "leave at random; give the weights that belong to the config"
        )


def _cmvn(front_end: Any) -> Any:
    value = getattr(front_end, "cmvn", None)
    return value.tolist() if isinstance(value, Tensor) else None
