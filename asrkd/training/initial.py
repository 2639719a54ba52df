"""The students of a training, made by the config."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from asrkd.acoustic import TrainedModel
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.waveform import AnyFrontEnd
from asrkd.errors import MismatchError
from asrkd.models import build_model, check_model, quantized_parameters

if TYPE_CHECKING:
    from asrkd.training.config import TrainConfig


def make_students(
    config: TrainConfig, front_end: AnyFrontEnd, inventory: Inventory, device: torch.device
) -> list[nn.Module]:
    """`mutual.students` models with random weights; the first, which is the result, on the device.

    Raises:
        ConfigError: a factory that cannot be used, or no layer to quantize.
        MismatchError: a model that does not keep the protocol.
    """
    settings, classes = config.model, len(inventory)
    students = [
        build_model(settings.factory, settings.args, input_dim=front_end.feature_dim, num_classes=classes)
        for _ in range(config.mutual.students)
    ]
    students[0].to(device)
    check_model(students[0], front_end, classes, settings.subsampling_factor)
    if settings.int8:
        quantized_parameters(students[0])
    return students


def initialise(model: nn.Module, path: str) -> Tensor | None:
    """Start from the weights of a finished model; returns its log-prior (V,), if it has one.

    Raises:
        MismatchError: weights of another model.
        AsrkdError: the file cannot be read.
    """
    initial = TrainedModel.read(path)
    try:
        model.load_state_dict(initial.weights)
    except RuntimeError as error:
        why = " ".join(str(error).split())
        raise MismatchError(
            f"init: {path!r} holds weights of another model ({why}); use the same factory and args"
        ) from None
    return initial.log_prior
