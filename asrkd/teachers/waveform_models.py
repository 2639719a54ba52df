"""Teachers that read samples: CTC heads of `transformers`, and the CTC pipelines of `torchaudio`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from asrkd import fingerprint
from asrkd.corpus.inventory import BLANK, Inventory
from asrkd.corpus.waveform import Waveform, law_of_convolutions
from asrkd.errors import AsrkdError, DependencyError, TeacherError
from asrkd.teachers.teacher import Teacher

Lengths = Tensor


def transformers_teacher(spec: str, name: str, device: str) -> Teacher:
    """A CTC model of `transformers` (Wav2Vec2, HuBERT, WavLM, ...): a folder that `save_pretrained` wrote, or a name on the hub.

    Raises:
        DependencyError: transformers is not installed.
        TeacherError: the model cannot be loaded, is no CTC model, or its frames do not follow from its convolutions alone.
    """
    try:
        import transformers
    except ImportError:
        raise DependencyError(f"teacher {spec!r} needs transformers: pip install 'asrkd[teachers]'") from None
    try:
        model = transformers.AutoModelForCTC.from_pretrained(name).float().eval().to(device)
        extractor = transformers.AutoFeatureExtractor.from_pretrained(name)
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        config = model.config
        kernels, strides = list(config.conv_kernel), list(config.conv_stride)
    except Exception as error:  # whatever transformers raises is the user's to see in one line
        raise _unusable(spec, f"{name!r} cannot be loaded as a CTC model of transformers", error) from None
    if getattr(config, "add_adapter", False):
        raise TeacherError(
            f"teacher {spec!r} has an adapter behind its convolutions, whose frames have no frame law here; use a model without one"
        )
    window, shift = law_of_convolutions(kernels, strides)
    front_end = Waveform(int(extractor.sampling_rate), window, shift, bool(extractor.do_normalize))
    blank = int(config.pad_token_id)
    inventory, order = _inventory(spec, tokenizer.convert_ids_to_tokens(list(range(config.vocab_size))), blank)
    # A group norm over time sees the padding: those models are run on one utterance at a time.
    whole = getattr(config, "feat_extract_norm", "group") == "layer"

    def masked(samples: Tensor, lengths: Lengths) -> Tensor:
        mask = (torch.arange(samples.shape[1], device=samples.device) < lengths[:, None]).long()
        return model(samples, attention_mask=mask).logits

    def alone(samples: Tensor) -> Tensor:
        return model(samples).logits

    settings = {
        key: value for key, value in config.to_dict().items() if key not in ("_name_or_path", "transformers_version")
    }
    identity = _identity(model, [type(model).__name__, settings], front_end, inventory)
    run = _Samples(front_end, order, device, alone, masked if whole else None)
    return Teacher(run, front_end, inventory, 1, spec, identity, device)


def torchaudio_teacher(spec: str, name: str, device: str) -> Teacher:
    """A CTC bundle of `torchaudio.pipelines`, such as `WAV2VEC2_ASR_BASE_960H`; its weights are downloaded once by torchaudio.

    Raises:
        TeacherError: there is no such bundle, or its weights cannot be had.
    """
    import torchaudio

    kind = type(torchaudio.pipelines.WAV2VEC2_ASR_BASE_960H)
    bundles = sorted(key for key, value in vars(torchaudio.pipelines).items() if isinstance(value, kind))
    if name not in bundles:
        raise TeacherError(f"teacher {spec!r}: torchaudio has no CTC bundle {name!r}; it has {', '.join(bundles)}")
    bundle = getattr(torchaudio.pipelines, name)
    try:
        model = bundle.get_model(dl_kwargs={"weights_only": True}).eval().to(device)
    except Exception as error:  # a download can fail in many ways
        raise _unusable(spec, "its weights cannot be loaded", error) from None
    convolutions = [
        layer
        for layer in model.modules()
        if isinstance(layer, nn.Conv1d) and layer.padding == (0,) and layer.groups == 1
    ]
    window, shift = law_of_convolutions([c.kernel_size[0] for c in convolutions], [c.stride[0] for c in convolutions])
    front_end = Waveform(int(bundle.sample_rate), window, shift)
    inventory, order = _inventory(spec, bundle.get_labels(), 0)
    identity = _identity(model, ["torchaudio", name], front_end, inventory)
    run = _Samples(front_end, order, device, lambda samples: model(samples)[0], None)
    return Teacher(run, front_end, inventory, 1, spec, identity, device)


class _Samples:
    """(N, S, 1) samples, (N,) -> (N, T, V) logits, (N,): all at once with a mask, or one utterance at a time."""

    def __init__(
        self,
        front_end: Waveform,
        order: Sequence[int],
        device: str,
        alone: Callable[[Tensor], Tensor],
        masked: Callable[[Tensor, Lengths], Tensor] | None,
    ) -> None:
        self._law = front_end.frame_law()
        self._order = torch.tensor(order, device=device)
        self._alone, self._masked = alone, masked

    def __call__(self, features: Tensor, lengths: Lengths) -> tuple[Tensor, Lengths]:
        samples = features[..., 0]
        frames = torch.tensor([self._law.num_frames(int(length)) for length in lengths], device=lengths.device)
        if self._masked is not None:
            logits = self._masked(samples, lengths)
        else:
            rows = [self._alone(row[None, : int(length)])[0] for row, length in zip(samples, lengths, strict=True)]
            logits = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return logits.index_select(-1, self._order), frames


def _inventory(spec: str, labels: Sequence[str], blank: int) -> tuple[Inventory, list[int]]:
    """The inventory with the blank first, and where each of its units stands in the model's output."""
    if not 0 <= blank < len(labels):
        raise TeacherError(
            f"teacher {spec!r} names {blank} as its blank, but has {len(labels)} classes; correct its config"
        )
    order = [blank, *(number for number in range(len(labels)) if number != blank)]
    try:
        return Inventory((BLANK, *(str(labels[number]) for number in order[1:])), "ctc"), order
    except AsrkdError as error:
        raise TeacherError(f"teacher {spec!r}: {error}") from None


def _identity(model: nn.Module, code: Any, front_end: Waveform, inventory: Inventory) -> str:
    weights = fingerprint.of_state_dict(model.state_dict())
    return fingerprint.of_json([weights, code, front_end.fingerprint, inventory.fingerprint, 1])


def _unusable(spec: str, what: str, error: Exception) -> TeacherError:
    text = " ".join(str(error).split())[:200]
    return TeacherError(f"teacher {spec!r}: {what} ({type(error).__name__}: {text})")
