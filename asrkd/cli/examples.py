"""An example of each command, which its help ends with."""

from __future__ import annotations

import click

EXAMPLES = {
    "align": "asrkd align exp/labeled exp/labeled-aligned --lexicon lexicon.txt --report aligned.html",
    "corpus look": "asrkd corpus look recordings/ corpus.html --sample 500",
    "corpus measure": "asrkd corpus measure recordings/ measured.jsonl.gz --workers 4",
    "decode": "asrkd decode exp/student test.jsonl.gz exp/decoded --grammar words.arpa",
    "demo": "asrkd demo demo-folder --workers 2",
    "doctor": "asrkd doctor",
    "estimate": "asrkd estimate recordings/ --hours 10000 --teacher transformers:facebook/wav2vec2-base-960h",
    "export card": "asrkd export card exp/student --name small-student --scores exp/decoded > README.md",
    "export onnx": "asrkd export onnx exp/student exp/onnx",
    "export sherpa": "asrkd export sherpa exp/student exp/sherpa --check test.jsonl.gz",
    "export executorch": "asrkd export executorch exp/student exp/device",
    "export web": "asrkd export web exp/student exp/page",
    "label codebooks": "asrkd label codebooks recordings/ books.npy --teacher checkpoint:exp/teacher --layer output",
    "label grow": "asrkd label grow more-recordings/ exp/soft",
    "label plan": "asrkd label plan recordings/ exp/soft --teacher transformers:facebook/wav2vec2-base-960h",
    "label retry": "asrkd label retry exp/soft",
    "label run": "asrkd label run exp/soft --workers 2 --device cuda:0,cuda:1",
    "label status": "asrkd label status exp/soft",
    "label work": "asrkd label work s3://bucket/soft --device cuda",
    "live": "asrkd live exp/student microphone",
    "report": "asrkd report exp/soft soft.html",
    "score": "asrkd score hyp-test.txt ref-test.txt",
    "segment": "asrkd segment talks/ talks.jsonl.gz --workers 4",
    "store card": "asrkd store card exp/soft --name soft-targets > README.md",
    "store compact": "asrkd store compact exp/soft exp/soft-large --shard-hours 10",
    "store delete": "asrkd store delete exp/soft --speaker 1034 --dry-run",
    "store head": "asrkd store head exp/soft --rows 1",
    "store index": "asrkd store index exp/soft",
    "store info": "asrkd store info exp/soft",
    "store pull": "asrkd store pull owner/soft-targets exp/soft",
    "store push": "asrkd store push exp/soft owner/soft-targets --private --dry-run",
    "store snapshot": "asrkd store snapshot exp/soft monday",
    "store stats": "asrkd store stats exp/soft",
    "store to-lhotse": "asrkd store to-lhotse exp/soft exp/lhotse",
    "store to-nemo": "asrkd store to-nemo exp/soft exp/nemo",
    "store verify": "asrkd store verify exp/soft",
    "tokens": "asrkd tokens train.jsonl.gz exp/bpe --kind bpe --size 500",
    "train": "asrkd train student.yaml seed=2",
    "transcribe": "asrkd transcribe exp/student talks/ --format jsonl --out talks.jsonl",
    "weigh": "asrkd weigh ensemble.yaml exp/dev-aligned weighted.yaml",
}


def add_examples(command: click.Command, path: str) -> None:
    """Let the help of a command, or of all commands of a group, end with its example."""
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            add_examples(below, f"{path} {name}")
    elif path in EXAMPLES:
        command.epilog = f"\b\nExample:\n  {EXAMPLES[path]}"
