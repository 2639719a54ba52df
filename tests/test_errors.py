from __future__ import annotations

import sys
from pathlib import Path

import pytest

from asrkd.errors import DependencyError
from asrkd.extras import import_optional
from asrkd.labeling import ray_cluster
from asrkd.store import Identity, Store, conditional
from asrkd.store.files import Files


@pytest.mark.parametrize(
    ("package", "use", "extra"),
    [
        (
            "ray",
            lambda: next(ray_cluster.RayCluster(Store(Files("store"), Identity(), {})).label([0])),
            r"asrkd\[ray\]",
        ),
        ("obstore", lambda: conditional.put("s3://b/x", "a", b""), r"asrkd\[cloud\]"),
    ],
)
def test_a_package_that_is_missing_or_broken(
    package: str, use: object, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DependencyError, match=f": pip install '{extra}'"):
        use()  # type: ignore[operator]
    for source in ("raise ImportError('libcudart.so.11: cannot open')", "import sys\nsys.nothing"):
        (tmp_path / f"{package}.py").write_text(source + "\n")
        monkeypatch.delitem(sys.modules, package, raising=False)
        monkeypatch.syspath_prepend(str(tmp_path))
        with pytest.raises(
            DependencyError, match="is installed but cannot be imported .*(libcudart|nothing).*force-reinstall"
        ):
            use()  # type: ignore[operator]


def test_a_module_missing_below_a_package_is_a_broken_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ray.py").write_text("import nothing_of_this_name\n")
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        DependencyError, match=r"ray is installed but cannot be imported \(ModuleNotFoundError: No module named"
    ):
        import_optional("ray", "it needs Ray")
