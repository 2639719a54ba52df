"""The optimizer of a training, torch's own, by the config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from asrkd.config import check, setting, wrong_value


@dataclass
class OptimizerConfig:
    """The optimizer and its learning rate: linear warm-up, then cosine decay over the whole schedule."""

    name: str = setting("adamw", one_of=("adamw", "sgd"))
    """`adamw`, or `sgd` with Nesterov momentum."""
    learning_rate: float = setting(0.001, above=0)
    """Peak learning rate."""
    momentum: float = setting(0.9, at_least=0, below=1)
    """Nesterov momentum of `sgd`; 0 disables it."""
    weight_decay: float = setting(0.0, at_least=0)
    """Weight decay."""
    warmup_steps: int = setting(100, at_least=0)
    """Updates of linear warm-up."""
    final_scale: float = setting(0.02, at_least=0)
    """Learning rate at the end, as a fraction of the peak."""
    clip_norm: float = setting(5.0, above=0, infinite=True)
    """Largest norm of the gradient; `.inf` disables clipping."""
    ema_decay: float = setting(0.99, at_least=0, below=1)
    """Decay of the exponential moving average of the weights, which is the trained model; 0 disables averaging."""
    encoder_scale: float = setting(1.0, above=0)
    """Learning rate of a pretrained encoder (`asrkd.models:Pretrained`, `asrkd.models:WhisperStudent`), as a factor of the head's."""
    layer_decay: float = setting(1.0, above=0, at_most=1)
    """Factor of the learning rate from each layer of a pretrained encoder to the one below it."""
    freeze_steps: int = setting(0, at_least=0)
    """Updates at the beginning in which a pretrained encoder stays as it is and the head alone is trained."""

    def __post_init__(self) -> None:
        check(self, "optimizer")


def pretrained_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Those of pretrained encoders inside a model that are trained."""
    return [parameter for parameter, depth in _depths(model).items() if depth is not None and parameter.requires_grad]


def _depths(model: nn.Module) -> dict[nn.Parameter, int | None]:
    """By parameter, layers of a pretrained encoder above it; None outside of one.

    Encoders are known by a method `parameter_depths` (`asrkd.models.Pretrained`, `asrkd.models.WhisperStudent`).
    """
    depths: dict[nn.Parameter, int | None] = dict.fromkeys(model.parameters())
    for module in model.modules():
        if hasattr(module, "parameter_depths"):
            parameters = dict(module.named_parameters())
            of_names = cast(Any, module).parameter_depths()
            depths |= {parameters[name]: depth for name, depth in of_names.items()}
    return depths


def _groups(model: nn.Module, settings: OptimizerConfig) -> list[dict[str, Any]]:
    """Parameters by the factor of their learning rate, the key `scale` of each group; in one group where all have the same."""
    depths = _depths(model)
    if all(depth is None for depth in depths.values()):
        default = OptimizerConfig()
        for key in ("encoder_scale", "layer_decay", "freeze_steps"):
            if (value := getattr(settings, key)) != getattr(default, key):
                raise wrong_value(
                    f"optimizer.{key}",
                    f"is {value:g}, but the model has no pretrained encoder that it could be for; leave it out, or set model.factory to "
                    "asrkd.models:Pretrained or asrkd.models:WhisperStudent",
                )
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter, depth in depths.items():
        scale = 1.0 if depth is None else settings.encoder_scale * settings.layer_decay**depth
        groups.setdefault(scale, []).append(parameter)
    return [{"params": parameters, "scale": scale} for scale, parameters in groups.items()]


def make_optimizer(model: nn.Module, settings: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), or SGD with Nesterov's momentum (Sutskever et al. 2013).

    AdamW divides by the root of the mean square of what it is given. Where compressed gradients (`scale.gtc_threshold`) come in rare pieces of one
    size, it makes shorter steps than with whole ones, by the root of the share of updates that bring something; SGD's are as long.

    A group's learning rate is to be multiplied by its key `scale`.

    Raises:
        ConfigError: settings of a pretrained encoder for a model without one.
    """
    parameters = _groups(model, settings)
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.name == "sgd":
        momentum = settings.momentum
        return torch.optim.SGD(parameters, lr=rate, momentum=momentum, weight_decay=decay, nesterov=momentum > 0)
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
