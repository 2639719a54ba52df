"""Targets of overlapping windows, stitched, against those of the whole recording, frame by frame.

    python tools/benchmarks/windows.py TEACHER RECORDING [--seconds 120] [--length 30] [--overlaps 1 2 4 8 15]

RECORDING is an audio file; its first `--seconds` are taken. For each overlap (and for windows without context, whose frames are cut off at the join, as a reference) the windows go through
`asrkd segment --windows`, `label plan` (codec dense) and `label run`, and their rows are put one behind the other. Prints the number of frames against that of the whole recording, the
share of frames whose likeliest class differs, and the share in which a probability differs by more than 0.01 and 0.1; over all frames, and over those within a second of a join.
A teacher whose features are normalised by the mean of its input differs everywhere by another mean: the line "same mean" has the features of the whole recording.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from asrkd.acoustic import AcousticModel, load_model
from asrkd.corpus.audio import read_audio
from asrkd.corpus.cuts import open_cuts
from asrkd.corpus.windows import windows_of
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.segmentation.run import segment_corpus
from asrkd.segmentation.settings import WindowSettings


def stitched(folder: Path, spec: str, length: float, overlap: float, work: Path) -> tuple[Tensor, list[int]]:
    """(T, V) posteriors, and at which frames windows meet."""
    manifest = work / f"{overlap:g}.jsonl"
    segment_corpus(folder, manifest, WindowSettings(length, overlap))
    store = plan(str(manifest), str(work / f"store-{overlap:g}"), teacher=spec, codec="dense", embed="none")
    run(Local(store))
    rows = sorted(store.rows(["start", "num_frames", *store.target_columns]), key=lambda row: row["start"])
    parts = [store.targets(row).to_dense().exp() for row in rows]
    return torch.cat(parts), torch.tensor([len(part) for part in parts]).cumsum(0)[:-1].tolist()


def without_overlap(teacher: AcousticModel, features: Tensor, length: float, overlap: float) -> Tensor:
    """(T, V) posteriors of the features of the whole recording in windows that see `overlap` / 2 more to each side."""
    law, rate = teacher.front_end.frame_law(teacher.subsampling_factor), teacher.front_end.sampling_rate
    factor, seconds = teacher.subsampling_factor, len(features) * law.frame_shift / rate / teacher.subsampling_factor
    parts = []
    for window in windows_of(seconds, length, overlap):
        begin, own = (round(at * rate) // law.frame_shift for at in (window.begin, window.owns_from))
        end = -(-len(features) // factor) if window.owns_to is None else round(window.owns_to * rate) // law.frame_shift
        last = len(features) if window.owns_to is None else round(window.end * rate) // law.frame_shift * factor
        part = features[begin * factor : last]
        log_probs, _ = teacher.log_probs(part[None], torch.tensor([len(part)]))
        parts.append(log_probs[0, own - begin : end - begin].exp())
    return torch.cat(parts)


def compared(found: Tensor, whole: Tensor, joins: list[int], second: int) -> str:
    if found.shape != whole.shape:
        return f"{len(found)} frames, not {len(whole)}"
    near = torch.zeros(len(whole), dtype=torch.bool)
    for join in joins:
        near[max(0, join - second) : join + second] = True
    parts = []
    for name, chosen in (("all", torch.ones_like(near)), ("within 1 s of a join", near)):
        one, other = found[chosen], whole[chosen]
        largest = (one - other).abs().amax(dim=1)
        argmax = (one.argmax(1) != other.argmax(1)).float().mean()
        parts.append(
            f"{name} ({len(one)}): argmax {argmax:.2%}, by > 0.01 {(largest > 0.01).float().mean():.2%}, > 0.1 {(largest > 0.1).float().mean():.2%}, largest {largest.max():.3f}"
        )
    return "; ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher")
    parser.add_argument("recording", type=Path)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--length", type=float, default=30)
    parser.add_argument("--overlaps", type=float, nargs="+", default=[1, 2, 4, 8, 15])
    options = parser.parse_args()
    torch.set_num_threads(1)
    teacher = load_model(options.teacher)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "recordings"
        folder.mkdir()
        samples, rate = soundfile.read(options.recording, dtype="int16", frames=-1)
        soundfile.write(folder / "a.flac", samples[: round(options.seconds * rate)], rate)
        audio = torch.from_numpy(read_audio(next(iter(open_cuts(folder))), teacher.front_end.sampling_rate))
        features = teacher.front_end((audio * 32768).round().clamp(-32768, 32767) / 32768)
        whole = teacher.log_probs(features[None], torch.tensor([len(features)]))[0][0].exp()
        law = teacher.front_end.frame_law(teacher.subsampling_factor)
        second = round(teacher.front_end.sampling_rate / law.frame_shift)
        again = teacher.log_probs(features[None].repeat(2, 1, 1), torch.tensor([len(features)] * 2))[0][0].exp()
        print(
            f"{len(whole)} frames, {options.length:g} s windows; the whole again in a batch of two differs by {(again - whole).abs().max():.1e}"
        )
        hop = round(options.length * teacher.front_end.sampling_rate) // law.frame_shift
        cut = torch.cat(
            [
                teacher.log_probs(part[None], torch.tensor([len(part)]))[0][0].exp()
                for part in features.split(hop * teacher.subsampling_factor)
            ]
        )
        print(f"no overlap, same mean: {compared(cut, whole, list(range(hop, len(whole), hop)), second)}")
        for overlap in options.overlaps:
            found, joins = stitched(folder, options.teacher, options.length, overlap, Path(name))
            print(f"overlap {overlap:g} s: {compared(found, whole, joins, second)}", flush=True)
            same = without_overlap(teacher, features, options.length, overlap)
            print(f"overlap {overlap:g} s, same mean: {compared(same, whole, joins, second)}", flush=True)


if __name__ == "__main__":
    main()
