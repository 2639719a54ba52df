"""Where a faster CTC model has the labels of a slower one: what a `frame_rate_map` from 80 ms to 40 ms should say, measured.

    python tools/benchmarks/peaks.py SLOW FAST CUTS

SLOW and FAST are models as `asrkd decode` takes them, over one inventory, whose frame shift is N times shorter in FAST; CUTS whatever `asrkd label plan` takes.
The labels of both best paths are aligned; of each pair that agrees it is counted in which of FAST's frames, from the first in SLOW's frame on, FAST has its peak,
and what FAST's distribution is, on average, in each of the frames of SLOW's.
"""

from __future__ import annotations

import argparse
from collections import Counter

import kaldialign
import numpy as np
import torch
from numpy.typing import NDArray

from asrkd.acoustic import AcousticModel, load_model
from asrkd.corpus.audio import read_audio
from asrkd.corpus.cut_json import to_cut
from asrkd.corpus.cuts import iterate_json
from asrkd.targets.frame_rates import FrameRates


def posteriors(model: AcousticModel, samples: torch.Tensor) -> NDArray[np.float64]:
    """(T', V) of one utterance."""
    features = model.front_end(samples)
    log_probs, _ = model.log_probs(features[None], torch.tensor([len(features)]))
    return log_probs[0].double().exp().numpy()


def peaks(probs: NDArray[np.float64]) -> list[tuple[int, int]]:
    """(label, frame) of each run of a label in the best path: the frame where it is most probable."""
    path = probs.argmax(axis=1)
    edges = np.flatnonzero(np.r_[True, path[1:] != path[:-1], True])
    return [
        (int(path[a]), int(a + probs[a:b, path[a]].argmax()))
        for a, b in zip(edges[:-1], edges[1:], strict=True)
        if path[a]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slow")
    parser.add_argument("fast")
    parser.add_argument("cuts")
    options = parser.parse_args()
    slow, fast = (load_model(spec if ":" in spec else f"checkpoint:{spec}") for spec in (options.slow, options.fast))
    laws = [one.front_end.frame_law(one.subsampling_factor) for one in (slow, fast)]
    rates, ratio = FrameRates(*laws), laws[0].frame_shift // laws[1].frame_shift
    places, inside, pairs, labels = Counter[int](), np.zeros((ratio, 3)), 0, 0
    for row in iterate_json(options.cuts):
        samples = torch.from_numpy(read_audio(to_cut(row), slow.front_end.sampling_rate))
        before, after = posteriors(slow, samples), posteriors(fast, samples)
        if not len(before) or not len(after):
            continue
        homes = rates.homes(len(before), len(after), last=False)
        mine, other = peaks(before), peaks(after)
        labels += len(mine)
        one, two = iter(mine), iter(other)
        for a, b in kaldialign.align([label for label, _ in mine], [label for label, _ in other], -1):
            left, right = next(one) if a != -1 else None, next(two) if b != -1 else None
            if left is None or right is None or left[0] != right[0]:
                continue
            first = int(homes[left[1]])
            places[right[1] - first] += 1
            stretch = after[first : first + ratio]
            if len(stretch) == ratio:
                pairs += 1
                inside += np.stack(
                    [stretch[:, left[0]], stretch[:, 0], 1 - stretch[:, left[0]] - stretch[:, 0]], axis=1
                )
    matched = sum(places.values())
    print(
        f"{labels} labels of SLOW, {matched} the same in FAST; FAST's peak, in its frames from the first of SLOW's on:"
    )
    for place in range(-3, ratio + 4):
        print(f"  {place:+d}: {places[place] / max(matched, 1):6.1%}{'  in the frame' if 0 <= place < ratio else ''}")
    print("FAST within SLOW's frame, mean probability of the label, of blank, of all else:")
    for place in range(ratio):
        print(f"  {place:+d}: " + ", ".join(f"{value / max(pairs, 1):.3f}" for value in inside[place]))


if __name__ == "__main__":
    main()
