"""The CTC pipelines of `torchaudio`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from asrkd import fingerprint
from asrkd.acoustic.kinds import Request, kind
from asrkd.acoustic.model import AcousticModel, identity
from asrkd.acoustic.token_classes import classes_of
from asrkd.corpus.waveform import Waveform, law_of_convolutions
from asrkd.errors import ModelError, one_line


@kind("torchaudio:BUNDLE", "A CTC bundle of torchaudio.pipelines, such as WAV2VEC2_ASR_BASE_960H.")
def torchaudio(request: Request) -> AcousticModel:
    """A CTC bundle, whose weights torchaudio downloads once.

    Raises:
        ModelError: there is no such bundle, or its weights cannot be had.
    """
    from torchaudio import pipelines

    spec, name, device = request.spec, request.argument, request.device
    of_ctc = type(pipelines.WAV2VEC2_ASR_BASE_960H)
    bundles = sorted(key for key, value in vars(pipelines).items() if isinstance(value, of_ctc))
    if name not in bundles:
        raise ModelError(f"model {spec!r}: torchaudio has no CTC bundle {name!r}; it has {', '.join(bundles)}")
    bundle = getattr(pipelines, name)
    try:
        model = bundle.get_model(dl_kwargs={"weights_only": True}).eval().to(device)
    except Exception as error:  # a download can fail in many ways
        raise ModelError(f"model {spec!r}: its weights cannot be loaded ({one_line(error)})") from None
    convolutions = [
        layer
        for layer in model.modules()
        if isinstance(layer, nn.Conv1d) and layer.padding == (0,) and layer.groups == 1
    ]
    window, shift = law_of_convolutions([c.kernel_size[0] for c in convolutions], [c.stride[0] for c in convolutions])
    front_end = Waveform(int(bundle.sample_rate), window, shift)
    inventory, order = classes_of(spec, bundle.get_labels(), 0)
    weights = fingerprint.of_state_dict(model.state_dict())
    identified = identity(weights, ["torchaudio", name], front_end, inventory, 1)
    # Their group norm over time sees the padding.
    run = _Samples(front_end, order, device, lambda samples, _lengths: model(samples)[0])
    return AcousticModel(run, front_end, inventory, 1, spec, identified, device, one_by_one=True)


class _Samples:
    """(N, S, 1) samples, (N,) -> (N, T, V) logits in the order of the inventory, (N,)."""

    def __init__(
        self, front_end: Waveform, order: Sequence[int], device: str, model: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        self._law = front_end.frame_law()
        self._order = torch.tensor(order, device=device)
        self._model = model

    def __call__(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        frames = torch.tensor([self._law.num_frames(int(length)) for length in lengths], device=lengths.device)
        return self._model(features[..., 0], lengths).index_select(-1, self._order), frames
