from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from asrkd.acoustic import AcousticModel
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.decoding.decode import Hypothesis, graph_decode
from asrkd.decoding.live import EndpointRules, LiveDecoder, LiveRecognizer, is_endpoint
from asrkd.errors import ConfigError, CorpusError, MismatchError
from asrkd.graphs import word_loop_graph
from asrkd.models import BLSTMTeacher, EmformerStudent, LSTMStudent, StreamState, TDNNStudent

LEXICON = Lexicon.from_pairs([("x", ["a", "b"]), ("y", ["b", "b"]), ("z", ["b", "a"]), ("w", ["a"]), ("w", ["c"])])
NEVER = EndpointRules(1e9, 1e9, 1e9)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.sampled_from(["ctc", "hmm"]), st.integers(0, 1000))
def test_chunks_give_the_path_of_the_whole_at_the_same_beam(sizes: list[int], topology: str, seed: int) -> None:
    inventory = Inventory.from_lexicon(LEXICON, topology)
    rng = np.random.default_rng(seed)
    log_probs = np.log(rng.dirichlet(0.3 * np.ones(len(inventory)), sum(sizes)) + 1e-9).astype(np.float32)
    graph = word_loop_graph(LEXICON, inventory)
    decoder = LiveDecoder(graph, beam=8.0, max_active=20)
    for _ in range(2):  # a decoder that begins again forgets the utterance before
        decoder.restart()
        for chunk in np.split(log_probs, np.cumsum(sizes)[:-1]):
            decoder.accept(chunk)
        if not sum(sizes):
            continue
        found = decoder.best(ended=True)
        whole = graph_decode(log_probs, graph, beam=8.0, max_active=20)
        assert (found.words, found.classes.tolist()) == (whole.words, whole.classes.tolist())
        assert found.score == pytest.approx(whole.score, abs=1e-4) and found.complete == whole.complete


def hypothesis(classes: list[int], words: tuple[str, ...]) -> Hypothesis:
    return Hypothesis(words, 0.0, np.array(classes))


def test_endpoints_follow_the_rules() -> None:
    rules = EndpointRules(silence_before_words=0.5, silence_after_words=0.3, longest=1.0)
    assert not is_endpoint(hypothesis([0] * 4, ()), rules, 0.1)
    assert is_endpoint(hypothesis([0] * 5, ()), rules, 0.1)
    assert not is_endpoint(hypothesis([1, 2, 0, 0], ("w",)), rules, 0.1)
    assert is_endpoint(hypothesis([0, 1, 2, 0, 0, 0], ("w",)), rules, 0.1)
    # Three silent frames are not enough while no word has come out.
    assert not is_endpoint(hypothesis([0, 1, 0, 0, 0], ()), rules, 0.1)
    assert is_endpoint(hypothesis([1] * 10, ("w",)), rules, 0.1)
    with pytest.raises(ConfigError, match="silence_after_words is 0"):
        EndpointRules(silence_after_words=0)


def recognizer(model: nn.Module, front_end: FrontEnd, rules: EndpointRules = NEVER) -> LiveRecognizer:
    inventory = Inventory.from_lexicon(LEXICON, "ctc")
    teacher = AcousticModel(model.eval(), front_end, inventory, 1, "test", "f" * 32)
    return LiveRecognizer(teacher, LiveDecoder(word_loop_graph(LEXICON, inventory), beam=12.0), rules)


@pytest.mark.parametrize("kind", ["lstm", "tdnn", "emformer"])
def test_a_student_on_chunks_of_audio_hears_the_words_of_the_whole(kind: str) -> None:
    torch.manual_seed(1)
    front_end = FrontEnd(8000, 20, mean_norm="causal")
    model: nn.Module = {
        "lstm": lambda: LSTMStudent(60, 4, 16, 1, output_delay=2),
        "tdnn": lambda: TDNNStudent(60, 4, 16, (1, 2), output_delay=2),
        "emformer": lambda: EmformerStudent(60, 4, 16, 2, 32, 2, segment_length=3, left_context_length=6),
    }[kind]()
    model.output.weight.data *= 20 if kind == "lstm" else 60
    live = recognizer(model, front_end)
    heard = set()
    for seed in range(3):
        samples = 0.3 * torch.randn(9000, generator=torch.Generator().manual_seed(seed)) * torch.linspace(0, 1, 9000)
        features = front_end(samples)[None]
        log_probs, _ = live.model.log_probs(features, torch.tensor([features.shape[1]]))
        whole = graph_decode(log_probs[0].numpy(), live.search.graph, beam=12.0)
        for chunk in samples.split(700):
            assert not live.accept(chunk).ended
        found = live.finish()
        assert found.ended and found.words == whole.words
        heard.add(whole.words)
    assert len(heard) > 1 and all(heard)


class Loudness(nn.Module):
    """Class 1 where it is loud, class 0 elsewhere."""

    chunk_frames, left_padding, output_delay = 1, 0, 0

    def initial_state(self, batch_size: int = 1) -> StreamState:
        return (torch.zeros(batch_size, dtype=torch.int64),)

    def stream(self, features: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        loud = features.mean(2) > 5
        return 20 * nn.functional.one_hot(loud.long(), 4).float(), (state[0] + features.shape[1],)

    def flush(self, state: StreamState) -> tuple[Tensor, StreamState]:
        return torch.zeros(1, 0, 4), state


def test_an_utterance_ends_behind_its_silence_and_the_next_begins() -> None:
    front_end = FrontEnd(8000, 20, mean_norm="none")
    live = recognizer(Loudness(), front_end, EndpointRules(5.0, 0.5, 20.0))
    noise = torch.randn(40000, generator=torch.Generator().manual_seed(0))
    loudness = torch.zeros(40000)
    loudness[2000:6000] = 0.3
    loudness[20000:24000] = 0.3
    ended, words = [], []
    for number, chunk in enumerate((loudness * noise).split(800)):
        found = live.accept(chunk)
        if found.ended:
            ended.append((number + 1) * 0.1)
            words.append(found.words)
    # Speech ends at 0.75 and 3.0 s, half a second of silence later the utterances.
    assert words == [("w",), ("w",)]
    assert ended == pytest.approx([1.3, 3.5], abs=0.15)
    assert live.finish().words == ()


def test_what_cannot_run_live_is_refused() -> None:
    with pytest.raises(ConfigError, match="BLSTMTeacher has no initial_state, so it cannot run on live audio"):
        recognizer(BLSTMTeacher(60, 4, 8, 1), FrontEnd(8000, 20, mean_norm="none"))
    with pytest.raises(ConfigError, match="mean_norm is 'utterance'"):
        recognizer(LSTMStudent(60, 4, 8, 1), FrontEnd(8000, 20))
    inventory = Inventory.from_lexicon(LEXICON, "ctc")
    decoder = LiveDecoder(word_loop_graph(LEXICON, inventory))
    with pytest.raises(MismatchError, match="7 classes"):
        decoder.accept(np.zeros((3, 7), dtype=np.float32))
    with pytest.raises(CorpusError, match="NaN"):
        decoder.accept(np.full((3, 4), np.nan, dtype=np.float32))
    with pytest.raises(ConfigError, match="max_active 1"):
        LiveDecoder(word_loop_graph(LEXICON, inventory), max_active=1)
