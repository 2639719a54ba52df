"""Decodes one system of a study on every test set, in every way that the config names; what these leave open is chosen on dev."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from asrkd import config as configs
from asrkd import files
from asrkd.acoustic import AcousticModel, TrainedModel, load_model
from asrkd.corpus.cut_json import custom_of
from asrkd.corpus.tokenizer import read_tokenizer
from asrkd.decoding.evaluation_set import AcousticScores, EvaluationSet, latency_ratio
from asrkd.decoding.search import Search, best_decoder
from asrkd.errors import ConfigError
from asrkd.evaluation.files import write_hypotheses, write_scores
from asrkd.evaluation.wer import Scored, as_characters, by_speaker, score, total
from asrkd.models import count_parameters, int8_bytes
from asrkd.store import Store
from asrkd.store.inspect import store_statistics
from asrkd.training.config import TrainConfig
from asrkd_recipes.study.config import SearchConfig, StudyConfig
from asrkd_recipes.study.results import DEV, RESULT, label_of

DEV_SET = "dev"


@dataclass(frozen=True)
class Settings:
    """What is chosen on dev."""

    leave_early: bool
    insertion_penalty: float
    acoustic_scale: float
    blank_penalty: float


@dataclass(frozen=True)
class HeldScores:
    """A test set with a model's scores, held because they are searched again and again."""

    test_set: EvaluationSet
    scores: Sequence[tuple[str, NDArray[np.float32]]]

    @classmethod
    def of(cls, model: AcousticModel, config: StudyConfig, cuts: str) -> HeldScores:
        test_set = EvaluationSet.read(str(Path(config.data) / f"{cuts}.jsonl.gz"))
        return cls(test_set, list(AcousticScores(model, test_set, prior_scale=config.decoding.prior_scale)))

    def scaled(self, model: AcousticModel, settings: Settings) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """The scores with a scale and a blank penalty; the prior is in them."""
        for key, frames in self.scores:
            frames = frames.copy()
            if settings.blank_penalty:
                model.check_blank_penalty(settings.blank_penalty)
                frames[:, 0] -= settings.blank_penalty
            yield key, settings.acoustic_scale * frames


@dataclass(frozen=True)
class Chosen:
    """A search with the settings that decode dev best: `rate` is its error rate on dev."""

    search: Search
    settings: Settings
    rate: float


def choose(config: StudyConfig, model: AcousticModel, given: SearchConfig, dev: HeldScores) -> Chosen:
    """Choose what a way of decoding leaves open, on dev."""
    lexicon = read_tokenizer(given.lexicon or config.tokenizer, config.text)
    grammar = given.grammar or None
    # With one state a phone, or none, there is nothing to leave early.
    early = given.leave_early if model.inventory.states_per_phone > 1 else [False]
    decoder = given.decoder or best_decoder(model.inventory, lexicon, grammar)[0]
    # The best class of each frame costs nothing, and does not change with a scale.
    greedy = decoder == "greedy"
    penalties, scales = ([0.0], [1.0]) if greedy else (given.insertion_penalties, given.acoustic_scales)
    tried = []
    for leave_early, penalty in itertools.product(early, penalties):
        search = Search(
            lexicon,
            model,
            decoder=decoder,
            grammar=grammar,
            insertion_penalty=penalty,
            leave_early=leave_early,
            beam=config.decoding.beam,
        )
        for scale, blank_penalty in itertools.product(scales, given.blank_penalties):
            settings = Settings(leave_early, penalty, scale, blank_penalty)
            rate = total(scored(search, dev.test_set, search.texts(dev.scaled(model, settings)), given)).rate
            tried.append(Chosen(search, settings, rate))
    return min(tried, key=lambda one: (one.rate, one.settings.leave_early, abs(one.settings.insertion_penalty)))


def scored(search: Search, test_set: EvaluationSet, texts: Mapping[str, str], given: SearchConfig) -> list[Scored]:
    """Errors of words, or of characters."""
    references = search.references(test_set.references)
    if given.errors == "characters":
        references, texts = ({key: as_characters(text) for key, text in side.items()} for side in (references, texts))
    return score(references, texts, test_set.speakers)


def dev_decoding(config: StudyConfig, spec: str) -> Chosen:
    """The first way of decoding, as it is best on dev."""
    model, given = load_model(spec, config.device), next(iter(config.decoding.all_searches().values()))
    return choose(config, model, given, HeldScores.of(model, config, DEV_SET))


def _chosen(config: StudyConfig, model: AcousticModel, cuts: str) -> dict[str, Chosen]:
    """What is best on a set of cuts, for each way of decoding."""
    held = HeldScores.of(model, config, cuts)
    return {name: choose(config, model, given, held) for name, given in config.decoding.all_searches().items()}


def rate_on_dev(config: StudyConfig, spec: str, out: Path) -> float:
    """The error rate of `dev_decoding`, of a system whose results are in `out`; measured once, `out/dev.json` holds it until they are there."""
    for file in (out / RESULT, out / DEV):
        if file.exists():
            return float(json.loads(file.read_text(encoding="utf-8"))["dev"])
    rate = dev_decoding(config, spec).rate
    files.write(out / DEV, json.dumps({"dev": rate}))
    return rate


def decode_system(config: StudyConfig, spec: str, runs: list[Path], out: Path) -> None:
    """Write `out/result.json` with the errors of each speaker, sizes and speed; nothing to do when it is there.

    The errors are by test set, or, of several ways of decoding, by `TEST, SEARCH`.
    """
    if (out / RESULT).exists():
        return
    model = load_model(spec, config.device)
    searches = config.decoding.all_searches()
    chosen = {cuts: _chosen(config, model, cuts) for cuts in dict.fromkeys([DEV_SET, *config.decoding.dev.values()])}
    on_dev = chosen[DEV_SET]
    first = next(iter(on_dev.values()))
    facts = [TrainedModel.read(run).facts for run in runs]
    sizes = [of_run["num_parameters"] for of_run in facts]
    result: dict = {
        "dev": first.rate,
        "insertion_penalty": first.settings.insertion_penalty,
        "leave_early": first.settings.leave_early,
        "num_parameters": sum(sizes),
        "float_bytes": 4 * sum(sizes),
        "int8_bytes": sum(_int8_bytes(run) for run in runs),
        "train_seconds": sum(of_run.get("train_seconds", 0.0) for of_run in facts),
        "sent_share": facts[0].get("sent_share"),
        "target_bytes": _target_bytes(runs[0]),
        "real_time_factor": latency_ratio(load_model(spec)),  # on the CPU
        "tests": {},
    }
    if config.decoding.searches:
        result["searches"] = {
            name: {"dev": one.rate, "errors": searches[name].errors} | vars(one.settings)
            for name, one in on_dev.items()
        }
    for test, cuts in config.tests.items():
        held = HeldScores.of(model, config, cuts)
        for name, one in chosen[config.decoding.dev.get(test, DEV_SET)].items():
            label = label_of(test, name)
            texts = one.search.texts(held.scaled(model, one.settings))
            errors = scored(one.search, held.test_set, texts, searches[name])
            file = label.replace(", ", "-")
            write_hypotheses(out / f"hyp-{file}.txt", texts)
            write_scores(out, file, errors)
            result.setdefault("settings", {})[label] = vars(one.settings)
            result["tests"][label] = {
                speaker: list(vars(found).values()) for speaker, found in by_speaker(errors).items()
            }
        if groups := _groups(held.test_set):
            result.setdefault("groups", {}).update(groups)
    files.write(out / RESULT, json.dumps(result, indent=1))


def _groups(test_set: EvaluationSet) -> dict[str, str]:
    """The speakers whose cuts have a custom field `group`, with it."""
    groups = ((test_set.speakers[cut["id"]], (custom_of(cut) or {}).get("group")) for cut in test_set.cuts)
    return {speaker: str(group) for speaker, group in groups if group is not None}


def _target_bytes(run: Path) -> float | None:
    """Of the soft targets that a run learned from, a frame; None where it had none."""
    sources = configs.from_dict(TrainConfig, configs.read_yaml(run / "config.yaml")).sources.values()
    stores = [source.store for source in sources if source.kind == "soft"]
    if not stores:
        return None
    sizes = store_statistics(Store.open(stores[0]))["bytes_per_frame"]
    return sum(size for name, size in sizes.items() if name.startswith("target_"))


def _int8_bytes(run: Path) -> int:
    """Size of a run's weights in a file with 8-bit matrices, or as they are where none can be rounded."""
    model = load_model(f"checkpoint:{run}").network
    try:
        return int8_bytes(model) if isinstance(model, nn.Module) else 0
    except ConfigError:
        return 4 * count_parameters(model)  # type: ignore[arg-type]
