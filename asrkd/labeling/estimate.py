"""What labeling a corpus will cost, from a short timed sample of it."""

from __future__ import annotations

import json
import math
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from asrkd.corpus.cuts import iterate_json
from asrkd.corpus.where import Where
from asrkd.errors import ConfigError, CorpusError
from asrkd.labeling.crew import ALONE, Crew, one_thread
from asrkd.labeling.plan import plan
from asrkd.labeling.worker import UnitResult
from asrkd.store import Store

# The sample is drawn from so many cuts at the corpus's beginning: a corpus may be too large to be read for it.
_POOL = 20_000
# The share of the sample that is labeled before the clock starts: processes start, kernels are chosen.
_WARM_UP = 0.2


@dataclass(frozen=True)
class Estimate:
    """What so many hours of audio cost.

    Attributes:
        hours: of audio, as asked.
        sample_seconds: of audio that was labeled for it, behind the warm-up.
        rtfx: seconds of audio in a second of one worker.
        worker_hours: that one worker needs for all.
        num_bytes: of all shards; `targets` and what rows carry besides.
        units: work units, each one shard.
    """

    hours: float
    sample_seconds: float
    rtfx: float
    worker_hours: float
    num_bytes: float
    units: int


def estimate(
    cuts: Sequence[str],
    *,
    hours: float,
    teacher: str,
    embed: str,
    codec: str | None = None,
    autocast: str = "",
    compile: bool = False,
    unit_hours: float = 1.0,
    where: Sequence[Where] = (),
    sample_minutes: float = 5.0,
    crew: Crew = ALONE,
    seed: int = 0,
) -> Estimate:
    """Label a random sample of a corpus on this machine, and scale what it took up to `hours`.

    Small shards cost more bytes than large ones, so the bytes are rather too many.

    Args:
        cuts, teacher, codec, embed, autocast, compile, unit_hours, where: as `asrkd.labeling.plan.plan`.
        hours: of audio to be labeled.
        sample_minutes: of audio to label for the estimate.
        crew: one worker, whose time is measured.
        seed: of the sample.

    Raises:
        ConfigError: hours or minutes that are not above 0, or more than one worker.
        CorpusError: too few usable cuts for a sample.
    """
    for name, value in (("hours", hours), ("sample_minutes", sample_minutes)):
        if not value > 0:
            raise ConfigError(f"{name} is {value}, but must be above 0")
    if crew.workers != 1:
        raise ConfigError(f"workers is {crew.workers}, but the time of one worker is measured; divide by yours")
    chosen = _sample(cuts, where, sample_minutes * 60, random.Random(seed))
    with tempfile.TemporaryDirectory(prefix="asrkd-estimate-") as folder:
        manifest = Path(folder) / "cuts.jsonl"
        manifest.write_text("".join(json.dumps(cut) + "\n" for cut in chosen), encoding="utf-8")
        seconds = sum(cut["duration"] for cut in chosen)
        store = plan(
            str(manifest), f"{folder}/store", teacher=teacher, codec=codec, embed=embed, autocast=autocast, compile=compile,
            unit_hours=seconds * _WARM_UP / 3600,
        )  # fmt: skip
        results, elapsed = _timed(store, crew)
    labeled = sum(result.seconds for result in results[1:])
    if not labeled or elapsed <= 0:
        raise CorpusError(
            f"of {len(chosen)} sampled cuts too few can be labeled for an estimate; the first reason: "
            f"{next((why for result in results for _, why in result.quarantined), 'the sample is one unit')}"
        )
    rtfx, stored = labeled / elapsed, sum(result.num_bytes for result in results[1:])
    return Estimate(
        hours=hours,
        sample_seconds=labeled,
        rtfx=rtfx,
        worker_hours=hours / rtfx,
        num_bytes=stored / labeled * hours * 3600,
        units=math.ceil(hours / unit_hours),
    )


def _timed(store: Store, crew: Crew) -> tuple[list[UnitResult], float]:
    """The results of all units, and the seconds that those but the first took."""
    with one_thread(), crew.labeler(store) as labeler:
        first = list(labeler.label([0]))
        began = time.monotonic()
        rest = list(labeler.label(range(1, store.num_units)))
        return first + rest, time.monotonic() - began


def _sample(cuts: Sequence[str], where: Sequence[Where], seconds: float, rng: random.Random) -> list[dict[str, Any]]:
    pool = [
        cut
        for name in cuts
        for cut in islice(iterate_json(name), _POOL // len(cuts))
        if "unreadable" not in cut and all(condition(cut) for condition in where)
    ]
    rng.shuffle(pool)
    chosen, total = [], 0.0
    for cut in pool:
        if total >= seconds:
            break
        chosen.append(cut)
        total += cut["duration"]
    if len(chosen) < 2:
        raise CorpusError(
            f"{', '.join(map(repr, cuts))} has {len(chosen)} usable cuts to sample, too few for an estimate"
        )
    return chosen
