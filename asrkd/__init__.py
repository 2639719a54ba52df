"""asrkd: teacher-student training for speech recognition from stored soft targets.

What `from asrkd import ...` offers is imported when it is first used (PEP 562), so `import asrkd` itself costs nothing. These names are the public
API (docs/api.md): one that is to change keeps working, with a DeprecationWarning, for one minor version. Everything else may change in any version.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asrkd.acoustic import AcousticModel as AcousticModel
    from asrkd.acoustic import load_model as load_model
    from asrkd.corpus.cuts import open_cuts as open_cuts
    from asrkd.corpus.front_end import FrontEnd as FrontEnd
    from asrkd.corpus.inventory import Inventory as Inventory
    from asrkd.corpus.tokenizer import read_tokenizer as read_tokenizer
    from asrkd.decoding.live import LiveRecognizer as LiveRecognizer
    from asrkd.decoding.search import Search as Search
    from asrkd.errors import AsrkdError as AsrkdError
    from asrkd.export.onnx_export import export_onnx as export_onnx
    from asrkd.export.sherpa import export_sherpa as export_sherpa
    from asrkd.losses import ctc_loss as ctc_loss
    from asrkd.losses import frame_cross_entropy as frame_cross_entropy
    from asrkd.losses import soft_cross_entropy as soft_cross_entropy
    from asrkd.losses import soft_kl as soft_kl
    from asrkd.models import BLSTMTeacher as BLSTMTeacher
    from asrkd.models import ConformerTeacher as ConformerTeacher
    from asrkd.models import EmformerStudent as EmformerStudent
    from asrkd.models import LSTMStudent as LSTMStudent
    from asrkd.models import StreamingModel as StreamingModel
    from asrkd.models import TDNNStudent as TDNNStudent
    from asrkd.store import Store as Store
    from asrkd.streaming import Batch as Batch
    from asrkd.streaming import Filter as Filter
    from asrkd.streaming import Loader as Loader
    from asrkd.streaming import Phase as Phase
    from asrkd.streaming import Source as Source
    from asrkd.streaming import to_cuts as to_cuts
    from asrkd.targets.codecs import parse_codec as parse_codec
    from asrkd.targets.sparse import SparseTargets as SparseTargets
    from asrkd.training.config import TrainConfig as TrainConfig
    from asrkd.training.trainer import Trainer as Trainer
    from asrkd.transcription.transcribe import Transcriber as Transcriber

__version__ = "0.2.0"

# Where each name is defined; tests/test_front_door.py compares with the imports above, which are for type checkers.
_MODULES = {
    "acoustic": ("AcousticModel", "load_model"),
    "corpus.cuts": ("open_cuts",),
    "corpus.front_end": ("FrontEnd",),
    "corpus.inventory": ("Inventory",),
    "corpus.tokenizer": ("read_tokenizer",),
    "decoding.live": ("LiveRecognizer",),
    "decoding.search": ("Search",),
    "errors": ("AsrkdError",),
    "export.onnx_export": ("export_onnx",),
    "export.sherpa": ("export_sherpa",),
    "losses": ("ctc_loss", "frame_cross_entropy", "soft_cross_entropy", "soft_kl"),
    "models": ("BLSTMTeacher", "ConformerTeacher", "EmformerStudent", "LSTMStudent", "StreamingModel", "TDNNStudent"),
    "store": ("Store",),
    "streaming": ("Batch", "Filter", "Loader", "Phase", "Source", "to_cuts"),
    "targets.codecs": ("parse_codec",),
    "targets.sparse": ("SparseTargets",),
    "training.config": ("TrainConfig",),
    "training.trainer": ("Trainer",),
    "transcription.transcribe": ("Transcriber",),
}
_MODULE_OF = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *_MODULE_OF]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, getattr(import_module(_MODULE_OF[name]), name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
