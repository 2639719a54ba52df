"""A text teacher next to its own package run by hand: error rate, flags against the references, speed of labeling, bytes after a kill.

    python tools/benchmarks/text_teacher.py CUTS --teacher text:faster-whisper:PATH [--clips N] [--parts hand,speed,kill,flags] [--store STORE]

CUTS is a transcribed corpus; without --clips all of it is taken. By hand: `WhisperModel.transcribe` of faster-whisper, or `generate` of transformers, one clip at a time, with the same settings. With --store, what is labeled is kept there, and a run that was
ended is continued. The bare loop
has the same batches, whose audio is in memory already, and does nothing but features, `generate` and the text. Speed is in seconds of audio for each second of CPU time, on one
thread. A loop is a text of more than twice the reference's words and five words more; it is found if it has one of the flags of LOOP.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from asrkd.corpus.cuts import iterate_json
from asrkd.corpus.transcripts import text_of
from asrkd.evaluation.wer import score, total
from asrkd.labeling.crew import Crew, one_thread
from asrkd.labeling.plan import plan
from asrkd.labeling.reading import batches, read_batch
from asrkd.labeling.teacher_identity import check_teacher
from asrkd.labeling.teacher_pass import pass_of
from asrkd.store import Store
from asrkd.text_teachers import TextTeacher

PARTS = ("hand", "speed", "kill", "flags")
LOOP = {"repetition", "compression", "long", "unfinished"}


def by_hand(teacher: TextTeacher, bare: bool) -> Callable[[Sequence[np.ndarray]], list[str]]:
    """Samples of clips to texts by the teacher's package: one clip at a time, or (bare) the batch at once."""
    run: Any = teacher.transcribe
    if hasattr(run, "processor"):
        tokens = run._most_tokens(len(run.prompt.tokens) if run.prompt else 1)

        @torch.no_grad()
        def generate(samples: Sequence[np.ndarray]) -> list[str]:
            found = []
            for some in [samples] if bare else [[one] for one in samples]:
                inputs = run.processor(some, sampling_rate=run.rate, return_tensors="pt")
                found += run.processor.batch_decode(
                    run.model.generate(**inputs, max_new_tokens=tokens), skip_special_tokens=True
                )
            return found

        return generate
    from faster_whisper.audio import pad_or_trim
    from faster_whisper.transcribe import get_suppressed_tokens

    model, tokenizer = run.model, run.tokenizer

    def transcribe(samples: Sequence[np.ndarray]) -> list[str]:
        if bare:
            encoded = model.encode(np.stack([pad_or_trim(model.feature_extractor(one)[..., :-1]) for one in samples]))
            prompt = model.get_prompt(tokenizer, [], without_timestamps=True)
            silent = get_suppressed_tokens(tokenizer, [-1])
            results = model.model.generate(encoded, [prompt] * len(samples), beam_size=1, suppress_tokens=silent)
            return [tokenizer.decode(one.sequences_ids[0]) for one in results]
        settings: dict[str, Any] = {"beam_size": 1, "temperature": 0.0, "without_timestamps": True}
        settings |= {"condition_on_previous_text": False, "language": "en", "no_speech_threshold": None}
        return ["".join(part.text for part in model.transcribe(one, **settings)[0]) for one in samples]

    return transcribe


def heard_batches(store: Store, teacher: TextTeacher) -> Iterator[tuple[list[str], list[np.ndarray]]]:
    """Ids and samples of the batches of labeling."""
    identity, samples = store.identity, pass_of(store, teacher).samples
    for unit in range(store.num_units):
        for part in batches(store.cuts(unit), identity.front_end, samples):
            heard = read_batch(part, identity.front_end, identity.embedding, samples).heard
            if heard:
                yield [one.row["id"] for one in heard], [one.features for one in heard]


def label(store: Store) -> tuple[float, float]:
    """Seconds of audio and of CPU time."""
    with one_thread(), Crew().labeler(store) as labeler:
        began = time.process_time()
        seconds = sum(result.seconds for result in labeler.label(range(store.num_units)))
        return seconds, time.process_time() - began


def shards(root: str) -> dict[str, bytes]:
    """The bytes of each shard."""
    return {path.name: path.read_bytes() for path in Path(root, "shards").glob("*.parquet")}


def killed(root: str) -> int:
    """Kill a run when it has its first shard, and run again; the number of shards that were there."""
    command = [sys.executable, "-m", "asrkd", "label", "run", root, "--readers", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not shards(root):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    count = len(shards(root))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return count


def rate(references: dict[str, str], texts: dict[str, str]) -> str:
    """The word error rate of what there is a text of."""
    known = {key: references[key] for key in texts}
    found = total(score(known, texts, dict.fromkeys(known, "")))
    return f"{100 * found.rate:.2f} % of {found.reference} words"


def tell_flags(rows: Sequence[dict[str, Any]], references: dict[str, str]) -> None:
    """Flags against the references."""
    loops = {
        row["id"]
        for row in rows
        if (words := len(row["text"].split())) > 2 * (known := len(references[row["id"]].split()))
        and words >= known + 5
    }
    found = {row["id"] for row in rows if LOOP & set(row["text_flags"])}
    print(
        f"loops: {len(loops)} of {len(rows)} texts, {len(found)} flagged, {len(loops & found)} of them loops: precision "
        f"{len(loops & found) / max(len(found), 1):.2f}, recall {len(loops & found) / max(len(loops), 1):.2f}"
    )
    texts = {row["id"]: row["text"] for row in rows}
    print(
        f"WER of all {rate(references, texts)}; without the flagged {rate(references, {k: v for k, v in texts.items() if k not in found})}"
    )
    for name, count in Counter(flag for row in rows for flag in row["text_flags"]).most_common():
        of = {row["id"] for row in rows if name in row["text_flags"]}
        print(
            f"  {name}: {count}, of them loops {len(of & loops)}; WER of these {rate(references, {k: texts[k] for k in of})}"
        )
    for row in rows:
        if row["id"] in loops ^ found:
            print(
                f"  {'missed' if row['id'] in loops else 'no loop'}: {row['text_flags']} {row['text'][:60]!r} / {references[row['id']][:60]!r}"
            )


def tell_by_hand(store: Store, teacher: TextTeacher, texts: dict[str, str], references: dict[str, str]) -> None:
    """The texts of labeling next to those of the package, one clip at a time."""
    hand, alone = by_hand(teacher, False), {}
    for keys, samples in heard_batches(store, teacher):
        alone |= {key: teacher.settings.text(text) for key, text in zip(keys, hand(samples), strict=True)}
    different = [key for key in texts if texts[key] != alone[key]]
    print(f"by hand, one clip at a time: WER {rate(references, alone)}; other texts than labeling: {len(different)}")
    for key in different[:10]:
        print(f"  {key}: {texts[key][:60]!r} / by hand {alone[key][:60]!r}")


@click.command()
@click.argument("cuts")
@click.option("--teacher", required=True)
@click.option("--clips", type=int)
@click.option("--parts", default=",".join(PARTS))
@click.option("--store", "kept", default="", help="Where the labeled store is kept; one that is there is continued.")
def main(cuts: str, teacher: str, clips: int | None, parts: str, kept: str) -> None:
    """Compare a text teacher with its package."""
    wanted = set(parts.split(","))
    if unknown := wanted - set(PARTS):
        raise click.UsageError(f"--parts has {', '.join(map(repr, sorted(unknown)))}; there are {', '.join(PARTS)}")
    torch.set_num_threads(1)
    chosen = [cut for cut in islice(iterate_json(cuts), 100_000) if text_of(cut)]
    random.Random(0).shuffle(chosen)
    ids = {cut["id"] for cut in chosen[:clips]}
    with tempfile.TemporaryDirectory() as folder:
        from asrkd.corpus.where import Where

        only: Any = [lambda cut: cut["id"] in ids]
        where: Sequence[Where] = only
        root = kept or f"{folder}/store"
        begun = Path(root).exists()
        store = Store.open(root) if begun else plan(cuts, root, teacher=teacher, unit_hours=0.04, where=where)
        seconds, cpu = label(store)
        rows = list(Store.open(store.root).rows(["id", "text", "text_raw", "text_flags"]))
        loaded = check_teacher(store)
        if not isinstance(loaded, TextTeacher):
            raise click.UsageError("--teacher is not a text teacher")
        rules = loaded.settings.text
        references = {cut["id"]: rules(text_of(cut) or "") for cut in chosen[:clips]}
        print(f"{cuts}: {len(rows)} clips, {seconds / 60:.1f} minutes labeled now, {teacher}")
        texts = {row["id"]: row["text"] for row in rows}
        print(
            f"labeling: WER {rate(references, texts)}, {seconds / max(cpu, 1e-9):.2f} s of audio a second", flush=True
        )
        if "hand" in wanted:
            tell_by_hand(store, loaded, texts, references)
        if "speed" in wanted:
            bare, bare_cpu = by_hand(loaded, True), 0.0
            for _, samples in heard_batches(store, loaded):
                began = time.process_time()
                bare(samples)
                bare_cpu += time.process_time() - began
            print(f"bare loop: {seconds / bare_cpu:.2f} s of audio a second; labeling / bare loop {bare_cpu / cpu:.3f}")
        if "kill" in wanted:
            again = plan(cuts, f"{folder}/again", teacher=teacher, unit_hours=0.04, where=where)
            count = killed(again.root)
            same = shards(again.root) == shards(store.root)
            print(
                f"killed with {count} of {store.num_units} shards and run again: {'the same bytes' if same else 'OTHER BYTES'}"
            )
        if "flags" in wanted:
            tell_flags(rows, references)


if __name__ == "__main__":
    main()
