"""A kind of stream that nothing knows of goes through plan, store, verification and batches by its codec alone; so do a layer's vectors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from stream_helpers import FRONT_END
from torch import Tensor

from asrkd.corpus.augment import Augment, TimeWarp
from asrkd.errors import ConfigError, MismatchError, StoreError
from asrkd.labeling.encoding import Encoded, packed
from asrkd.store import Store, manifest
from asrkd.store.compact import compact
from asrkd.store.files import Files
from asrkd.store.identity import Identity
from asrkd.store.rows import rows_of_table
from asrkd.store.verify import verify
from asrkd.store.writer import write_shard
from asrkd.streaming.batch import Batch
from asrkd.streaming.loader import Loader
from asrkd.streaming.source import Source
from asrkd.streaming.view import UtteranceView
from asrkd.targets.codecs import CODECS, stream_codec
from asrkd.targets.frame_rate_map import FrameRateMap
from asrkd.targets.layer_codec import Float16
from asrkd.targets.statistics import frame_statistics
from asrkd.targets.streams import HIDDEN, POSTERIORS, Columns
from asrkd.targets.vectors import FrameVectors


@dataclass(frozen=True)
class Tokens:
    """What a text teacher wrote: tokens with a confidence each, as many as it likes."""

    ids: Tensor
    confidences: Tensor
    lengths: Tensor
    num_frames: None = None

    @classmethod
    def cat(cls, parts: Sequence[Tokens]) -> Tokens:
        return cls(*(torch.cat([getattr(one, name) for one in parts]) for name in ("ids", "confidences", "lengths")))

    def frames(self, places: Tensor) -> Tokens:
        return self

    def map(self, change: Callable[[Tensor], Tensor]) -> Tokens:
        return Tokens(change(self.ids), change(self.confidences), change(self.lengths))


@dataclass(frozen=True)
class TokenCodec:
    """Also its own layout: a column of ids and one of confidences in steps of 1/200."""

    size: int
    stream: ClassVar[str] = "tokens"
    form: ClassVar[str] = "tokens:V"
    arguments: ClassVar[tuple[type[int] | type[float], ...]] = (int,)
    by_frame: ClassVar[bool] = False

    @property
    def spec(self) -> str:
        return f"tokens:{self.size}"

    def layout(self, num_classes: int) -> TokenCodec:
        return self

    @property
    def columns(self) -> dict[str, np.dtype]:
        return {"token_ids": np.dtype(np.int32), "token_confidences": np.dtype(np.uint8)}

    def pack(self, encoded: list[tuple[int, float]]) -> dict[str, Any]:
        ids = np.array([token for token, _ in encoded], np.int32)
        return {"token_ids": ids, "token_confidences": bytes(round(200 * confidence) for _, confidence in encoded)}

    def join(self, rows: Sequence[Columns], num_frames: Sequence[int]) -> dict[str, Tensor]:
        lengths = [len(row["token_ids"]) for row in rows]
        if lengths != [len(row["token_confidences"]) for row in rows]:
            raise StoreError("as many tokens as confidences belong in a row; the shard is damaged")
        data = bytearray().join(row["token_confidences"] for row in rows)
        return {
            "token_ids": torch.from_numpy(np.concatenate([np.zeros(0, np.int32), *(row["token_ids"] for row in rows)])),
            "token_confidences": torch.from_numpy(np.frombuffer(data, np.uint8)),
            "token_lengths": torch.tensor(lengths),
        }

    def unpack(self, columns: Mapping[str, Tensor], num_frames: Tensor) -> Tokens:
        return Tokens(columns["token_ids"].long(), columns["token_confidences"] / 200, columns["token_lengths"])


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CODECS, "tokens", TokenCodec)


def tokens_of(number: int) -> list[tuple[int, float]]:
    return [((number + place) % 9, ((7 * number + place) % 11) / 20) for place in range(number % 4)]


def vectors_of(number: int, frames: int) -> torch.Tensor:
    return torch.randn(frames, 3, generator=torch.Generator().manual_seed(number)).half().float()


@pytest.fixture
def labeled(make_store: Any, tmp_path: Path) -> Callable[..., Store]:
    """A store of 12 utterances as an encoder, a layer and a text teacher left it; some lack tokens."""

    def make(*names: str) -> Store:
        plain = Store.open(make_store("u", rows=12))
        identity = plain.identity
        codecs = {POSTERIORS: identity.posterior_codec, HIDDEN: Float16(3), "tokens": TokenCodec(9)}
        soft = POSTERIORS in names
        identity = Identity(
            "checkpoint:t.pt", "0" * 32, {name: codecs[name] for name in names}, identity.inventory if soft else None,
            front_end=FRONT_END, embed="audio", layer="lstm" if HIDDEN in names else "",
        )  # fmt: skip
        root = tmp_path / "-".join(names)
        files = Files(str(root))
        manifest.create(files, identity, {"num_units": 2, "num_cuts": 12, "hours": 0.0})
        for unit in plain.units():
            rows = rows_of_table(plain.read_row_group(unit, 0))
            for row in rows:
                number, frames = int(row["id"][1:]), row["num_frames"]
                if HIDDEN in names:
                    row |= identity.layouts[HIDDEN].pack(Float16(3).encode(vectors_of(number, frames)))
                if "tokens" in names and number != 5:
                    row |= identity.layouts["tokens"].pack(tokens_of(number))
            write_shard(files, unit, rows, identity)
        return Store.open(str(root))

    return make


def batches(source: Source, on_device: bool) -> Iterator[Batch]:
    loader = Loader(
        {"s": source}, front_end=FRONT_END, max_frames=60, max_utterances=4, seed=3, unpack_on_device=on_device
    )
    for step in loader.steps({"s": 1}):
        yield from step


def test_a_new_kind_of_stream_goes_from_store_to_batch(labeled: Callable[..., Store], tmp_path: Path) -> None:
    store = labeled(POSTERIORS, HIDDEN, "tokens")
    written = json.loads(Path(store.root, "manifest.json").read_text())["identity"]
    assert (written["codec"], written["layer_codec"], written["streams"]) == (
        "dense",
        "float16:3",
        {"tokens": "tokens:9"},
    )
    assert store.identity.streams["tokens"] == stream_codec("tokens", "tokens:9") and verify(store.root) == []
    source = Source("s", store, streams=(POSTERIORS, HIDDEN, "tokens"), repeat=False)
    for device in (False, True):
        seen = {}
        for batch in batches(source, device):
            assert set(batch.packed) == (set() if not device else {POSTERIORS, HIDDEN, "tokens"} & set(batch.has))
            batch = batch.to("cpu")
            assert batch.targets is not None and not batch.packed
            hidden = batch.streams[HIDDEN]
            assert isinstance(hidden, FrameVectors) and hidden.lengths.tolist() == batch.num_frames.tolist()
            for number, (key, vectors) in enumerate(zip(batch.ids, hidden.padded(), strict=True)):
                frames = int(batch.num_frames[number])
                assert torch.equal(vectors[:frames], vectors_of(int(key[1:]), frames)) and not vectors[frames:].any()
            with_tokens = [key for key, there in zip(batch.ids, batch.has["tokens"].tolist(), strict=True) if there]
            tokens = batch.streams["tokens"]
            assert isinstance(tokens, Tokens)
            ends = tokens.lengths.cumsum(0).tolist()
            for key, end, length in zip(with_tokens, ends, tokens.lengths.tolist(), strict=True):
                pairs = zip(
                    tokens.ids[end - length : end].tolist(),
                    tokens.confidences[end - length : end].tolist(),
                    strict=True,
                )
                seen[key] = [(token, pytest.approx(confidence)) for token, confidence in pairs]
        assert seen == {f"u{number}": tokens_of(number) for number in range(12) if number != 5}
    compact(store, str(tmp_path / "compact"))
    assert verify(str(tmp_path / "compact")) == []


def test_streams_are_read_where_they_are_wanted(labeled: Callable[..., Store]) -> None:
    store = labeled(POSTERIORS, HIDDEN, "tokens")
    assert list(UtteranceView(Source("s", store), front_end=FRONT_END)[0].streams) == [POSTERIORS]
    one = UtteranceView(Source("s", store, streams=["tokens"]), front_end=FRONT_END)[1]
    assert list(one.streams) == ["tokens"] and one.targets is None
    with pytest.raises(ConfigError, match="source 's': hidden targets are wanted, but the store .* has none"):
        Source("s", labeled("tokens"), streams=[HIDDEN])


def test_time_moves_what_is_counted_in_frames_alone(labeled: Callable[..., Store]) -> None:
    store = labeled(POSTERIORS, HIDDEN, "tokens")
    rate = FrameRateMap("nearest")
    with pytest.raises(ConfigError, match="hidden targets are wanted.* frame-rate map would leave them behind"):
        Source("s", store, streams=[HIDDEN], frame_rate_map=rate)
    Source("s", store, streams=["tokens"], frame_rate_map=rate)
    source = Source("s", store, streams=(POSTERIORS, HIDDEN, "tokens"))
    plain = UtteranceView(source, front_end=FRONT_END)["u7"]
    warped = [
        UtteranceView(source, front_end=FRONT_END, augment=Augment(time_warp=TimeWarp(probability=1.0)), seed=seed)[
            "u7"
        ]
        for seed in range(5)
    ]
    changed = 0
    for one in warped:
        hidden, before, soft = one.streams[HIDDEN], plain.streams[HIDDEN], one.targets
        assert isinstance(hidden, FrameVectors) and isinstance(before, FrameVectors) and soft and plain.targets
        # The same frames of both, so that a vector still goes with its posterior.
        places = [int((before.values == vector).all(1).nonzero()[0]) for vector in hidden.values]
        assert torch.equal(soft.to_dense(), plain.targets.to_dense()[places])
        changed += places != list(range(len(places)))
        tokens, kept = one.streams["tokens"], plain.streams["tokens"]
        assert isinstance(tokens, Tokens) and isinstance(kept, Tokens) and torch.equal(tokens.ids, kept.ids)
    assert changed


def test_a_store_of_a_text_teacher_alone_has_no_inventory(labeled: Callable[..., Store]) -> None:
    store = labeled("tokens")
    assert verify(store.root) == [] and store.target_columns == []
    batch = next(batches(Source("s", store, streams=["tokens"], repeat=False), False))
    assert batch.targets is None and isinstance(batch.streams["tokens"], Tokens)
    with pytest.raises(StoreError, match="holds tokens, and no posteriors"):
        store.targets(next(store.rows()))


def test_damage_in_a_stream_names_the_utterance(labeled: Callable[..., Store], monkeypatch: pytest.MonkeyPatch) -> None:
    store = labeled(POSTERIORS, HIDDEN, "tokens")
    rows = list(store.rows())
    rows[2]["layer"] = rows[2]["layer"][:-1]
    write_shard(store.files, 0, rows[:6], store.identity)
    store = Store.open(store.root)
    assert len(verify(store.root)) == 1 and f"utterance {rows[2]['id']!r}" in verify(store.root)[0]
    with pytest.raises(StoreError, match=f"utterance {rows[2]['id']!r} of source 's': column 'layer' has .* bytes"):
        list(batches(Source("s", store, streams=(POSTERIORS, HIDDEN), repeat=False), False))


def test_a_shard_with_other_streams_is_refused(labeled: Callable[..., Store]) -> None:
    store, other = labeled(POSTERIORS), labeled(POSTERIORS, "tokens")
    write_shard(store.files, 0, [], other.identity)
    with pytest.raises(MismatchError, match=r"part-00000.* has streams \{'tokens': 'tokens:9'\}, the store has None"):
        Store.open(store.root).index(["id"])
    write_shard(other.files, 0, [], store.identity)
    with pytest.raises(MismatchError, match=r"part-00000.* has streams None, the store has \{'tokens': 'tokens:9'\}"):
        Store.open(other.root).index(["id"])


def test_labeling_packs_any_stream(labeled: Callable[..., Store]) -> None:
    identity = labeled(POSTERIORS, HIDDEN, "tokens").identity
    log_probs = torch.randn(4, 3).log_softmax(1)
    kept = {
        POSTERIORS: identity.posterior_codec.encode(log_probs),
        HIDDEN: Float16(3).encode(vectors_of(1, 4)),
        "tokens": tokens_of(3),
    }
    columns = packed(Encoded(kept, frame_statistics(log_probs)), identity)
    assert {name for layout in identity.layouts.values() for name in layout.columns} <= set(columns)
    assert columns["token_ids"].tolist() == [token for token, _ in tokens_of(3)]


def test_codecs_are_for_their_stream() -> None:
    with pytest.raises(ConfigError, match="targets 'hidden' are given the codec 'tokens:9', which is for 'tokens'"):
        Identity(streams={HIDDEN: TokenCodec(9)}, layer="x")
    with pytest.raises(ConfigError, match="targets 'music' .* are not known; they are of a later version"):
        stream_codec("music", "midi:1")
    with pytest.raises(ConfigError, match="codec of tokens targets 'tokens' is not known; give tokens:V"):
        stream_codec("tokens", "tokens")
