"""Decodes one system of a study on every test set; the insertion penalty is chosen on dev."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from torch import nn

from asrkd import checkpoint, files
from asrkd import config as configs
from asrkd.acoustic import load_model
from asrkd.corpus.lexicon import Lexicon
from asrkd.decoding.run import compute_scores, decode_scores, latency_ratio, read_prior, search_graph
from asrkd.errors import ConfigError
from asrkd.evaluation.files import write_hypotheses, write_scores
from asrkd.evaluation.wer import by_speaker, score, total
from asrkd.models import count_parameters, int8_bytes
from asrkd.store.inspect import statistics
from asrkd.training.config import TrainConfig
from asrkd_recipes.study.config import StudyConfig


def decode_system(config: StudyConfig, spec: str, runs: list[Path], out: Path) -> None:
    """Write `out/result.json` with the errors of each speaker, sizes and speed; nothing to do when it is there."""
    if (out / "result.json").exists():
        return
    model = load_model(spec)
    data = Path(config.data)
    lexicon = Lexicon.read(data / "lexicon.txt")
    # The prior of an ensemble is the mean of its members'.
    prior = np.log(np.mean([np.exp(read_prior(run)) for run in runs], axis=0)).astype(np.float32)
    settings = config.decoding
    graphs = {
        penalty: search_graph(lexicon, model.inventory, insertion_penalty=penalty, leave_early=settings.leave_early)
        for penalty in settings.insertion_penalties
    }

    def decode(scores, penalty: float) -> dict[str, str]:  # type: ignore[no-untyped-def]
        return decode_scores(
            scores,
            model,
            graphs[penalty],
            log_prior=prior,
            acoustic_scale=settings.acoustic_scale,
            prior_scale=settings.prior_scale,
            beam=settings.beam,
        )

    dev = compute_scores(model, str(data / "dev.jsonl.gz"))
    rates = {}
    for penalty in settings.insertion_penalties:
        rates[penalty] = total(score(dev.references, decode(dev, penalty), dev.speakers)).rate
    best = min(rates, key=lambda penalty: (rates[penalty], abs(penalty)))
    finals = [checkpoint.read(run / "final.pt") for run in runs]
    sizes = [final["num_parameters"] for final in finals]
    result: dict = {
        "dev": rates[best],
        "insertion_penalty": best,
        "num_parameters": sum(sizes),
        "float_bytes": 4 * sum(sizes),
        "int8_bytes": sum(_int8_bytes(run) for run in runs),
        "train_seconds": sum(final.get("train_seconds", 0.0) for final in finals),
        "sent_share": finals[0].get("sent_share"),
        "target_bytes": _target_bytes(runs[0]),
        "real_time_factor": latency_ratio(model, model.front_end),
        "tests": {},
    }
    for name, cuts in config.tests.items():
        scores = compute_scores(model, str(data / f"{cuts}.jsonl.gz"))
        texts = decode(scores, best)
        scored = score(scores.references, texts, scores.speakers)
        write_hypotheses(out / f"hyp-{name}.txt", texts)
        write_scores(out, name, scored)
        result["tests"][name] = {speaker: list(vars(errors).values()) for speaker, errors in by_speaker(scored).items()}
    files.write(out / "result.json", json.dumps(result, indent=1))


def _target_bytes(run: Path) -> float | None:
    """Of the soft targets that a run learned from, a frame; None where it had none."""
    sources = configs.from_dict(TrainConfig, configs.read(run / "config.yaml")).sources.values()
    stores = [source.store for source in sources if source.kind == "soft"]
    if not stores:
        return None
    sizes = statistics(stores[0])["bytes_per_frame"]
    return sum(size for name, size in sizes.items() if name.startswith("target_"))


def _int8_bytes(run: Path) -> int:
    """Of a run's weights as a file with matrices of eight bits; as they are, where none can be rounded."""
    model = load_model(f"checkpoint:{run}").network
    try:
        return int8_bytes(model) if isinstance(model, nn.Module) else 0
    except ConfigError:
        return 4 * count_parameters(model)  # type: ignore[arg-type]
