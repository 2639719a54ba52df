"""Programs of ExecuTorch, run by ExecuTorch."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch
from export.students import student

from asrkd.acoustic import load_model
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.errors import ConfigError, DependencyError
from asrkd.export.executorch_export import export_executorch
from asrkd.models import BLSTMTeacher

FRONT_END = FrontEnd.from_dict({"preset": "sherpa"})
UNITS = Inventory(("<blk>", *"abcd"), "ctc", 1)


@pytest.mark.slow
def test_chunks_with_carried_state_are_the_model(tmp_path: Path) -> None:
    pytest.importorskip("executorch", reason="executorch is not installed: pip install 'asrkd[executorch]'")
    from executorch.runtime import Runtime

    model = load_model(student("TDNNStudent", FRONT_END, UNITS, tmp_path / "final.pt"))
    program = export_executorch(model, tmp_path / "out", chunk_frames=5)
    assert program.backend == "XNNPACK" and program.difference < 1e-4
    stream = json.loads((tmp_path / "out/stream.pte.json").read_text())["stream"]
    carried = [torch.zeros(1, *part["shape"], dtype=getattr(torch, part["type"])) for part in stream["state"]]
    method = Runtime.get().load_program(tmp_path / "out/stream.pte").load_method("forward")
    features = torch.randn(1, 40, FRONT_END.feature_dim)
    rows = []
    for chunk in features.split(stream["chunk_frames"], dim=1):
        logits, *carried = (part.clone() for part in method.execute([chunk, *carried]))
        rows.append(logits)
    expected, _ = model.logits(features, torch.tensor([40]))
    delay = stream["output_delay"]
    torch.testing.assert_close(torch.cat(rows, dim=1)[:, delay:], expected[:, : 40 - delay], atol=1e-4, rtol=0)


def test_what_executorch_cannot_run_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(student("EmformerStudent", FRONT_END, UNITS, tmp_path / "final.pt"))
    with pytest.raises(ConfigError, match="chunk_frames is 3, but the model reads a multiple of 4 frames"):
        export_executorch(model, tmp_path / "out", chunk_frames=3)
    offline = dataclasses.replace(model, network=BLSTMTeacher(FRONT_END.feature_dim, len(UNITS), 8, 1))
    with pytest.raises(ConfigError, match="BLSTMTeacher has no initial_state, so it cannot be exported for ExecuTorch"):
        export_executorch(offline, tmp_path / "out")
    for name in [*sys.modules]:
        if name.partition(".")[0] == "executorch":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "executorch", None)
    with pytest.raises(DependencyError, match=r"pip install 'asrkd\[executorch\]'"):
        export_executorch(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
