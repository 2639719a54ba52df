"""Decodes one system of a study on every test set; the insertion penalty, and whether phones may be left early, are chosen on dev."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from asrkd import config as configs
from asrkd import files
from asrkd.acoustic import AcousticModel, TrainedModel, load_model
from asrkd.corpus.tokenizer import read_tokenizer
from asrkd.decoding.evaluation_set import AcousticScores, EvaluationSet, latency_ratio
from asrkd.decoding.search import Search, best_decoder
from asrkd.errors import ConfigError
from asrkd.evaluation.files import write_hypotheses, write_scores
from asrkd.evaluation.wer import by_speaker, score, total
from asrkd.models import count_parameters, int8_bytes
from asrkd.store import Store
from asrkd.store.inspect import store_statistics
from asrkd.training.config import TrainConfig
from asrkd_recipes.study.config import DecodingConfig, StudyConfig


@dataclass(frozen=True)
class DevDecoding:
    """A model with what decodes dev best: `rate` is the word error rate on dev."""

    model: AcousticModel
    search: Search
    penalty: float
    leave_early: bool
    rate: float


def dev_decoding(config: StudyConfig, spec: str) -> DevDecoding:
    """Choose the insertion penalty, and whether phones may be left early, on dev."""
    model = load_model(spec, config.device)
    data, settings = Path(config.data), config.decoding
    lexicon = read_tokenizer(config.tokenizer, config.text)
    dev = EvaluationSet.read(str(data / "dev.jsonl.gz"))
    # Held, because they are searched again and again.
    scores = list(_scores(model, dev, settings))
    # With one state a phone, or none, there is nothing to leave early.
    early = settings.leave_early if model.inventory.states_per_phone > 1 else [False]
    greedy = best_decoder(model.inventory, lexicon, None)[0] == "greedy"
    # The best class of each frame costs nothing.
    penalties = [0.0] if greedy else settings.insertion_penalties
    tried = []
    for leave_early, penalty in itertools.product(early, penalties):
        search = Search(lexicon, model, insertion_penalty=penalty, leave_early=leave_early, beam=settings.beam)
        errors = total(score(search.references(dev.references), search.texts(scores), dev.speakers))
        tried.append(DevDecoding(model, search, penalty, leave_early, errors.rate))
    return min(tried, key=lambda trial: (trial.rate, trial.leave_early, abs(trial.penalty)))


def _scores(model: AcousticModel, test_set: EvaluationSet, settings: DecodingConfig) -> AcousticScores:
    return AcousticScores(model, test_set, acoustic_scale=settings.acoustic_scale, prior_scale=settings.prior_scale)


def decode_system(config: StudyConfig, spec: str, runs: list[Path], out: Path) -> None:
    """Write `out/result.json` with the errors of each speaker, sizes and speed; nothing to do when it is there."""
    if (out / "result.json").exists():
        return
    best = dev_decoding(config, spec)
    model, data = best.model, Path(config.data)
    facts = [TrainedModel.read(run).facts for run in runs]
    sizes = [of_run["num_parameters"] for of_run in facts]
    result: dict = {
        "dev": best.rate,
        "insertion_penalty": best.penalty,
        "leave_early": best.leave_early,
        "num_parameters": sum(sizes),
        "float_bytes": 4 * sum(sizes),
        "int8_bytes": sum(_int8_bytes(run) for run in runs),
        "train_seconds": sum(of_run.get("train_seconds", 0.0) for of_run in facts),
        "sent_share": facts[0].get("sent_share"),
        "target_bytes": _target_bytes(runs[0]),
        "real_time_factor": latency_ratio(load_model(spec)),  # on the CPU
        "tests": {},
    }
    for name, cuts in config.tests.items():
        test_set = EvaluationSet.read(str(data / f"{cuts}.jsonl.gz"))
        texts = best.search.texts(_scores(model, test_set, config.decoding))
        scored = score(best.search.references(test_set.references), texts, test_set.speakers)
        write_hypotheses(out / f"hyp-{name}.txt", texts)
        write_scores(out, name, scored)
        result["tests"][name] = {speaker: list(vars(errors).values()) for speaker, errors in by_speaker(scored).items()}
    files.write(out / "result.json", json.dumps(result, indent=1))


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
