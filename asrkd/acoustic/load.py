"""Acoustic models by spec string. Nothing is unpickled: weights are read with `weights_only=True`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import nn

from asrkd.acoustic.bundles import torchaudio
from asrkd.acoustic.ensemble import ensemble
from asrkd.acoustic.factory import python
from asrkd.acoustic.funasr_models import funasr
from asrkd.acoustic.kinds import Kind, Request
from asrkd.acoustic.lattice import Lattices, lattice
from asrkd.acoustic.model import AcousticModel, check_device
from asrkd.acoustic.nemo_models import nemo
from asrkd.acoustic.onnx import onnx
from asrkd.acoustic.probe import as_planned, probed
from asrkd.acoustic.scripted import torchscript
from asrkd.acoustic.trained import int8, trained
from asrkd.acoustic.transformers_ctc import transformers
from asrkd.errors import ModelError

# By name, in the order of the help.
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        trained,
        int8,
        torchscript,
        onnx,
        transformers,
        nemo,
        funasr,
        torchaudio,
        python,
        ensemble,
        lattice,
    )
}


def load_model(
    spec: str, device: str = "cpu", *, autocast: str = "", compile: bool = False, probe: bool = True
) -> AcousticModel:
    """Load the model that a spec names.

    Args:
        spec: `kind:...`, where `KINDS` says what each kind is; the folder of a run is short for `checkpoint:FOLDER`.
        device: where it runs, `cpu` or `cuda:0`.
        autocast: type of torch's autocast, see `AcousticModel`.
        compile: whether its network goes through `torch.compile`.
        probe: whether a model that is not asrkd's own is tried on a little noise (`asrkd.acoustic.probe`): one that does not work is refused, and
            one whose output depends on the batch is run on one utterance at a time. False where a store's identity says how it runs.

    Raises:
        ConfigError: the device cannot be used.
        ModelError: the spec is not one of these, or what it names cannot be used, or not in this way.
        MismatchError: its frames are not those of its frame law.
    """
    check_device(device)
    model = _untried(spec, device, autocast, compile)
    if not probe or model.own:
        return model
    # A probe of a few frames is not worth compiling for.
    tried = _untried(spec, device, autocast, False) if compile else model
    core = tried.network.below if isinstance(tried.network, Lattices) else tried
    return as_planned(model, probed(tried, core).fingerprint)


def _untried(spec: str, device: str, autocast: str, compile: bool, above: tuple[str, ...] = ()) -> AcousticModel:
    name, _, argument = spec.partition(":")
    if name not in KINDS and Path(spec).is_dir():
        spec, name, argument = f"checkpoint:{spec}", "checkpoint", spec
    if name == "text":
        raise ModelError(
            f"model {spec!r} writes text and gives no posteriors of frames, which are needed here; name a model of frames, or label with it "
            "(asrkd label plan --teacher) and train from, or align, its text (docs/teachers.md)"
        )
    if name not in KINDS or not argument:
        if spec.endswith(".nemo"):
            raise ModelError(f"model {spec!r} is of no known kind; a file of NeMo is given as nemo:{spec}")
        raise ModelError(
            f"model {spec!r} is of no known kind; give one of {', '.join(kind.form for kind in KINDS.values())}, or the folder of a run"
        )
    if spec in above:
        raise ModelError(f"model {spec!r} is made of itself; name other models in its file")
    kind = KINDS[name]

    def member(below: str) -> AcousticModel:
        return _untried(below, device, autocast, compile, (*above, spec))

    model = kind.load(Request(spec, argument, device, member))
    if kind.of_models:
        return model
    if autocast and not kind.in_torch:
        raise ModelError(f"model {spec!r}: autocast {autocast} is torch's; convert the graph to that type instead")
    model = dataclasses.replace(model, autocast=autocast)
    if not compile:
        return model
    if not isinstance(model.network, nn.Module) or isinstance(model.network, torch.jit.ScriptModule):
        raise ModelError(
            f"model {spec!r} cannot be compiled: its network is not a torch.nn.Module in Python; leave out compile"
        )
    # Lengths differ from batch to batch; without `dynamic` each would be compiled again.
    return dataclasses.replace(model, network=torch.compile(model.network, dynamic=True))
