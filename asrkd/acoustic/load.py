"""Teachers by spec string. Nothing is unpickled: weights are read with `weights_only=True`."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from asrkd import fingerprint
from asrkd.acoustic.description import read_description
from asrkd.acoustic.ensemble import ensemble_teacher
from asrkd.acoustic.lattice import Lattices, lattice_teacher
from asrkd.acoustic.model import AcousticModel, one_line
from asrkd.acoustic.onnx import onnx_teacher
from asrkd.acoustic.probe import as_planned, probed
from asrkd.acoustic.waveform_models import torchaudio_teacher, transformers_teacher
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.waveform import AnyFrontEnd
from asrkd.errors import AsrkdError, ModelError
from asrkd.models import build_model, to_int8

KINDS = (
    "checkpoint:PATH",
    "int8:PATH",
    "torchscript:PATH",
    "onnx:PATH",
    "transformers:PATH_OR_NAME",
    "torchaudio:BUNDLE",
    "python:package.module:factory",
    "ensemble:SPEC_FILE",
    "lattice:SPEC_FILE",
)


def load_model(
    spec: str, device: str = "cpu", *, autocast: str = "", compile: bool = False, probe: bool = True
) -> AcousticModel:
    """Load the teacher that a spec names.

    - `checkpoint:PATH`: a checkpoint of `asrkd train` (`final.pt`), or its run folder.
    - `int8:PATH`: the same, computing with weights of eight bits on a CPU (`asrkd.models.int8`).
    - `torchscript:PATH`: a scripted module with `PATH.json` beside it: `front_end`, `inventory`, `subsampling_factor`.
    - `onnx:PATH`: a graph, described like a scripted module (`asrkd.acoustic.onnx`).
    - `transformers:PATH_OR_NAME`: a CTC model of transformers (`asrkd.acoustic.waveform_models`).
    - `torchaudio:BUNDLE`: a CTC bundle of torchaudio.pipelines.
    - `python:package.module:factory`: a function that returns an `AcousticModel`.
    - `ensemble:SPEC_FILE`: a YAML file, `teachers: [{spec: ..., weight: ...}]` and `domain: probability` or `log`.
    - `lattice:SPEC_FILE`: a YAML file, `teacher`, `lexicon` and more (`asrkd.acoustic.lattice.LatticeSettings`): a teacher's posteriors
      given that the words are those of a lexicon and grammar.

    Args:
        spec: as above.
        device: where it runs, `cpu` or `cuda:0`.
        autocast: type of torch's autocast, see `AcousticModel`.
        compile: whether its model goes through `torch.compile`.
        probe: whether a model that is not asrkd's own is tried on a little noise (`asrkd.acoustic.probe`): one that does not work is refused, and
            one whose output depends on the batch is run on one utterance at a time. False where a store's identity says how it runs.

    Raises:
        ModelError: the spec is not one of these, or what it names cannot be used, or not in this way.
        MismatchError: its frames are not those of its frame law.
    """
    teacher = _untried(spec, device, autocast, compile)
    if not probe or teacher.own:
        return teacher
    # A probe of a few frames is not worth compiling for.
    tried = _untried(spec, device, autocast, False) if compile else teacher
    core = tried.network.below if isinstance(tried.network, Lattices) else tried
    return as_planned(teacher, probed(tried, core).fingerprint)


def _untried(spec: str, device: str, autocast: str, compile: bool) -> AcousticModel:
    kind, _, rest = spec.partition(":")

    def below(spec: str) -> AcousticModel:
        return _untried(spec, device, autocast, compile)

    if kind == "ensemble" and rest:
        return ensemble_teacher(spec, Path(rest), below)
    if kind == "lattice" and rest:
        return lattice_teacher(spec, Path(rest), below)
    teacher = dataclasses.replace(_load(spec, kind, rest, device), autocast=autocast)
    if autocast and kind == "onnx":
        raise ModelError(f"model {spec!r}: autocast {autocast} is torch's; convert the graph to that type instead")
    if not compile:
        return teacher
    if not isinstance(teacher.network, nn.Module) or isinstance(teacher.network, torch.jit.ScriptModule):
        raise ModelError(
            f"model {spec!r} cannot be compiled: its model is no torch.nn.Module in Python; leave out compile"
        )
    # Lengths differ from batch to batch; without `dynamic` each would be compiled anew.
    return dataclasses.replace(teacher, network=torch.compile(teacher.network, dynamic=True))


def _load(spec: str, kind: str, rest: str, device: str) -> AcousticModel:
    if kind == "checkpoint" and rest:
        return _checkpoint(spec, Path(rest), device)
    if kind == "int8" and rest:
        return _int8(spec, Path(rest), device)
    if kind == "torchscript" and rest:
        return _torchscript(spec, Path(rest), device)
    if kind == "onnx" and rest:
        return onnx_teacher(spec, Path(rest), device)
    if kind == "transformers" and rest:
        return transformers_teacher(spec, rest, device)
    if kind == "torchaudio" and rest:
        return torchaudio_teacher(spec, rest, device)
    if kind == "python" and ":" in rest:
        return _python(spec, rest, device)
    raise ModelError(f"model {spec!r} is of no known kind; give one of {', '.join(KINDS)}")


def _identity(weights: str, code: Any, front_end: AnyFrontEnd, inventory: Inventory, subsampling_factor: int) -> str:
    return fingerprint.of_json([weights, code, front_end.fingerprint, inventory.fingerprint, subsampling_factor])


def _checkpoint(spec: str, path: Path, device: str) -> AcousticModel:
    path = path / "final.pt" if path.is_dir() else path
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        front_end = FrontEnd.from_dict(content["front_end"])
        inventory = Inventory.from_dict(content["inventory"])
        factory, args = content["model_factory"], content["model_args"]
        factor = int(content["subsampling_factor"])
        model = build_model(factory, args, input_dim=front_end.feature_dim, num_classes=len(inventory))
        model.load_state_dict(content["model"])
    except FileNotFoundError:
        raise ModelError(
            f"model {spec!r}: {str(path)!r} does not exist; train it to its end, or correct the path"
        ) from None
    except AsrkdError:
        raise
    except Exception as error:
        raise ModelError(
            f"model {spec!r}: {str(path)!r} cannot be used as a checkpoint of asrkd ({one_line(error)}); give what asrkd train wrote"
        ) from None
    model.eval().to(device)
    weights = fingerprint.of_state_dict(content["model"])
    identity = _identity(weights, [factory, args], front_end, inventory, factor)
    own = factory.startswith("asrkd.models:")
    return AcousticModel(model, front_end, inventory, factor, spec, identity, device, own=own)


def _int8(spec: str, path: Path, device: str) -> AcousticModel:
    if device != "cpu":
        raise ModelError(f"model {spec!r} runs on a CPU alone, not on {device!r}; give checkpoint:{path} there")
    teacher = _checkpoint(spec, path, device)
    if not isinstance(teacher.network, nn.Module):
        raise ModelError(f"model {spec!r}: its model is no torch.nn.Module")
    identity = fingerprint.of_json([teacher.fingerprint, "int8"])
    # It rounds activations by the range that they have in a batch, padding included.
    return dataclasses.replace(teacher, network=to_int8(teacher.network), fingerprint=identity, own=False)


def _torchscript(spec: str, path: Path, device: str) -> AcousticModel:
    front_end, inventory, factor = read_description(spec, path)
    try:
        model = torch.jit.load(str(path), map_location=device).eval()
        identity = _identity(fingerprint.of_file(path), "torchscript", front_end, inventory, factor)
    except Exception as error:  # torch.jit reads no checkpoint, names operators that it does not know, and more
        raise ModelError(
            f"model {spec!r}: torch {torch.__version__} cannot load {str(path)!r} as TorchScript ({one_line(error)}); give what "
            "torch.jit.save wrote, for this version of torch"
        ) from None
    return AcousticModel(model, front_end, inventory, factor, spec, identity, device)


def _python(spec: str, factory: str, device: str) -> AcousticModel:
    module_name, _, name = factory.partition(":")
    try:
        make = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ModelError(f"model {spec!r} cannot be imported: {error}") from None
    try:
        teacher = make()
    except AsrkdError:
        raise
    except Exception as error:  # it is the user's code
        raise ModelError(f"model {spec!r}: the factory fails ({one_line(error)}); correct it") from error
    if not isinstance(teacher, AcousticModel):
        raise ModelError(
            f"model {spec!r}: the factory returns a {type(teacher).__name__}, not an asrkd.acoustic.AcousticModel"
        )
    # What a factory says of itself is tried all the same.
    teacher = dataclasses.replace(teacher, spec=spec, own=False)
    if isinstance(teacher.network, nn.Module):
        return dataclasses.replace(teacher, network=teacher.network.eval().to(device), device=device)
    if teacher.device != device:
        raise ModelError(
            f"model {spec!r} runs on {teacher.device!r} and cannot be moved to {device!r}: its model is no torch.nn.Module"
        )
    return teacher
