"""The probe: a teacher run on a little noise, alone and in a batch, before a job depends on it.

It finds what only a run shows: a runtime that fails, posteriors of the wrong form, randomness that was left on, and models whose output
depends on the other utterances of a batch (convolutions that see the padding, norms over time or over the batch, activations that are
quantized batch by batch).
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asrkd import fingerprint
from asrkd.acoustic.model import AcousticModel, ModelFailure
from asrkd.corpus.waveform import Waveform
from asrkd.errors import MismatchError, ModelError

# Of noise: four short utterances, each a frame longer than the one before (models that squeeze frames by 2 or 4 see the padding where the
# number is odd), and a long one, next to which they get more padding than frames of their own.
SHORT_SECONDS, LONG_SECONDS, NUM_SHORT = 0.4, 1.2, 4
# Largest difference of log-posteriors that counts as rounding, for each unit of the largest one. Kernels for another batch shape sum in
# another order, which in 32 bits changes a deep model's output by 1e-6 to 1e-5 of its range; padding that is seen changes it by far more.
TOLERANCE = 1e-4


def probed(teacher: AcousticModel, core: AcousticModel | None = None) -> AcousticModel:
    """The teacher as it can be used: as it is, or one utterance at a time where its output would depend on the batch.

    The second is another teacher with a fingerprint of its own, since its targets differ. asrkd's own models are not run.

    Args:
        core: the teacher below, to be run in its place, where noise has no posteriors of its own (lattices).

    Raises:
        ModelError: the model fails on every batch, gives posteriors that cannot be used, or others when it is run again.
        MismatchError: its frames are not those of the frame law.
    """
    if teacher.own:
        return teacher
    return alone(teacher) if _depends_on_batch(core or teacher) else teacher


def alone(teacher: AcousticModel) -> AcousticModel:
    """The same model, run on one utterance at a time."""
    return dataclasses.replace(teacher, one_by_one=True, fingerprint=_fingerprint_alone(teacher))


def as_planned(teacher: AcousticModel, planned: str) -> AcousticModel:
    """A teacher that was loaded without a probe, run as in the store whose teacher has the fingerprint `planned`.

    So the plan decides, whatever device a worker has, and a store from before there was a probe is continued as it was begun.
    """
    return alone(teacher) if planned == _fingerprint_alone(teacher) else teacher


def works(teacher: AcousticModel) -> bool:
    """Whether the model runs at all: a failure on an utterance is then the utterance's."""
    try:
        for features in _noise(teacher):
            teacher.log_probs(features[None], torch.tensor([len(features)]))
    except Exception:
        return False
    return True


def _fingerprint_alone(teacher: AcousticModel) -> str:
    return fingerprint.of_json([teacher.fingerprint, "one by one"])


def _depends_on_batch(teacher: AcousticModel) -> bool:
    teacher = dataclasses.replace(teacher, autocast="")
    # Randomness that was left on must not move that of the caller.
    devices = [torch.device(teacher.device)] if teacher.device.startswith("cuda") else []
    with torch.random.fork_rng(devices):
        features = _noise(teacher)
        single = [_usable_log_probs(teacher, one) for one in features]
        if teacher.one_by_one:
            difference = 0.0
        else:
            lengths = torch.tensor([len(one) for one in features])
            try:
                together, out_lengths = teacher.log_probs(pad_sequence(features, batch_first=True), lengths)
            except ModelFailure:
                return True  # a batch of one is all that it takes
            if out_lengths.tolist() != [len(one) for one in single] or together.shape[1] < len(single[-1]):
                return True
            difference = max(_difference(one, row) for one, row in zip(single, together, strict=True))
        again = _usable_log_probs(teacher, features[0])
    if _difference(single[0], again) > TOLERANCE:
        raise ModelError(
            f"model {teacher.spec!r} gives other posteriors when it is run again on the same input (difference "
            f"{float((single[0] - again).abs().max()):.2g}), so a job could not be repeated or resumed; randomness or a state was left on: "
            "export the model in evaluation mode (model.eval()), without dropout or noise"
        )
    return difference > TOLERANCE


def _noise(teacher: AcousticModel) -> list[Tensor]:
    """(T, F) features of the utterances, the longest one last."""
    generator, found = torch.Generator().manual_seed(0), []
    for num_samples in _num_samples(teacher):
        found.append(teacher.front_end(0.1 * torch.randn(num_samples, generator=generator)))
    return found


def _num_samples(teacher: AcousticModel) -> list[int]:
    law = teacher.front_end.frame_law(teacher.subsampling_factor)
    rate = teacher.front_end.sampling_rate
    short = int(SHORT_SECONDS * rate)
    while law.num_frames(short) < 10:  # whatever the frame rate
        short *= 2
    last = short + (NUM_SHORT - 1) * law.frame_shift
    return [*range(short, last + 1, law.frame_shift), max(2 * last, int(LONG_SECONDS * rate))]


def _usable_log_probs(teacher: AcousticModel, features: Tensor) -> Tensor:
    """(T', V) log-posteriors of one utterance alone, in the host's memory."""
    logits, lengths = teacher.logits(features[None], torch.tensor([len(features)]))
    length, expected = int(lengths[0]), _num_frames(teacher, len(features))
    # The length that a `Waveform` model has is ours, so only its logits tell how many frames it makes.
    whole = isinstance(teacher.front_end, Waveform)
    if length != expected or (logits.shape[1] != length if whole else logits.shape[1] < length):
        raise MismatchError(
            f"model {teacher.spec!r} gives {logits.shape[1]} frames of logits and the length {length} for an utterance of {len(features)} "
            f"features, where the front end and a subsampling factor of {teacher.subsampling_factor} make {expected} frames; its targets would be shifted "
            "against the audio. Correct subsampling_factor or front_end, or pad the model's input"
        )
    logits = logits[0, :length].float().cpu()
    log_probs = logits.log_softmax(-1)
    if bool(log_probs.isnan().any()):
        raise ModelError(
            f"model {teacher.spec!r} gives NaN or infinite logits for noise; its weights are damaged, or its numbers too large for its type"
        )
    if bool((logits >= 0).all()) and bool(((logits.sum(-1) - 1).abs() < 1e-3).all()):
        raise ModelError(
            f"model {teacher.spec!r} gives probabilities (each frame sums to 1), not logits; another softmax would make its targets almost "
            "flat. Export it without the softmax, or with log_softmax"
        )
    return log_probs


def _num_frames(teacher: AcousticModel, num_features: int) -> int:
    """Frames of the output for this many features, which are samples where the front end is a `Waveform`."""
    if isinstance(teacher.front_end, Waveform):
        return teacher.front_end.frame_law(teacher.subsampling_factor).num_frames(num_features)
    return -(-num_features // teacher.subsampling_factor)


def _difference(one: Tensor, other: Tensor) -> float:
    """Largest difference over the frames of `one`, relative to its range; infinite logits of a class are left out where both have them."""
    other = other[: len(one)].float().cpu()
    same = one == other
    gap = (one - other).abs().masked_fill(same, 0.0)
    scale = one.masked_fill(one.isinf(), 0.0).abs().max().clamp_min(1.0)
    return float((gap.max() / scale).nan_to_num(torch.inf))
