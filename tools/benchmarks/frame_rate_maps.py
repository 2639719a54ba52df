"""What each frame-rate map leaves of a CTC teacher's labels, for students of several frame shifts.

    python tools/benchmarks/frame_rate_maps.py MODEL CUTS --lexicon lexicon.txt [--shifts 10 15 20 40 60 80]

MODEL is a CTC model as `asrkd decode` takes it, CUTS whatever `asrkd label plan` takes. Its posteriors are mapped to frames of each shift (in ms); printed are the label error rate of
the mapped best path against the teacher's own, and that of both against the first pronunciation of the transcript.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import kaldialign
import torch

from asrkd.acoustic import load_model
from asrkd.corpus.audio import read_audio
from asrkd.corpus.cut_json import to_cut
from asrkd.corpus.frame_law import FrameLaw
from asrkd.corpus.tokenizer import read_tokenizer, spell
from asrkd.decoding.evaluation_set import EvaluationSet
from asrkd.targets.codecs import Dense
from asrkd.targets.frame_rate_map import FrameRateMap
from asrkd.targets.frame_rates import FrameRates
from asrkd.targets.packed import as_stored
from asrkd.targets.sparse import SparseTargets

# For comparison: a slower teacher's frame once, and blanks between.
PARTED = "once, then blank"
RULES = ("pool", "nearest", "peak", PARTED)
OWN = "teacher's own frames"


def labels(targets: SparseTargets) -> list[int]:
    """The best CTC path; frames without entries are blank."""
    dense = targets.to_dense(-1e4)
    path = torch.where(dense.amax(1) > -1e4, dense.argmax(1), 0)
    return [label for label in torch.unique_consecutive(path).tolist() if label]


def parted(targets: SparseTargets, rates: FrameRates, num_frames: int) -> SparseTargets:
    """Each of the teacher's distributions at the student's frame that has its middle, and blank elsewhere."""
    blank = as_stored(Dense(), torch.eye(targets.num_classes)[:1].log())
    places = torch.full((num_frames,), targets.num_frames)
    places[torch.from_numpy(rates.homes(targets.num_frames, num_frames))] = torch.arange(targets.num_frames)
    return SparseTargets.cat([targets, blank]).frames(places)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("cuts")
    parser.add_argument("--lexicon", required=True)
    parser.add_argument("--shifts", type=int, nargs="+", default=[10, 15, 20, 40, 60, 80])
    options = parser.parse_args()
    model = load_model(options.model if ":" in options.model else f"checkpoint:{options.model}")
    cuts, words = EvaluationSet.read(options.cuts), read_tokenizer(options.lexicon)
    rate = model.front_end.sampling_rate
    teacher = model.front_end.frame_law(model.subsampling_factor)
    # Windows as the teacher's, every `shift`.
    laws = {ms: FrameLaw(teacher.window, rate * ms // 1000) for ms in options.shifts}
    lost: dict[tuple[str, str], int] = defaultdict(int)
    wrong: dict[tuple[str, str], int] = defaultdict(int)
    own_labels = spoken = 0
    for row in cuts.cuts:
        samples = torch.from_numpy(read_audio(to_cut(row), rate))
        features = model.front_end(samples)
        log_probs, _ = model.log_probs(features[None], torch.tensor([len(features)]))
        targets = as_stored(Dense(), log_probs[0])
        before = labels(targets)
        said = [
            unit
            for one in spell(words, cuts.references[row["id"]], what=row["id"])
            for unit in model.inventory.ids(one[0])
        ]
        own_labels, spoken = own_labels + len(before), spoken + len(said)
        mapped = {(f"{teacher.frame_shift * 1000 // rate} ms", OWN): before}
        for ms, law in laws.items():
            for rule in RULES:
                rates, frames = FrameRates(teacher, law), law.num_frames(len(samples))
                if rule != PARTED:
                    student = FrameRateMap(rule)(targets, rates, frames)
                elif law.frame_shift < teacher.frame_shift:
                    student = parted(targets, rates, frames)
                else:
                    continue
                mapped[f"{ms} ms", rule] = labels(student)
        for key, found in mapped.items():
            lost[key] += kaldialign.edit_distance(before, found)["total"]
            wrong[key] += kaldialign.edit_distance(said, found)["total"]
    print(f"{len(cuts.cuts)} utterances, {own_labels} labels of the teacher, {spoken} of the transcripts")
    for shift, rule in lost:
        print(
            f"{shift:>6} {rule:<20} against the teacher {lost[shift, rule] / max(own_labels, 1):6.1%}, the transcript {wrong[shift, rule] / max(spoken, 1):6.1%}"
        )


if __name__ == "__main__":
    main()
