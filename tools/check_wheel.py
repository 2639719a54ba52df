"""Checks an installed wheel and its sdist: that Python runs the copy that was installed, and that files which are not Python are in both.

    python tools/check_wheel.py SDIST.tar.gz

It is run by the Python into which the wheel was installed (.ci/run), from a folder without the sources.
"""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

import asrkd
import asrkd_recipes

DATA = {
    asrkd: ("py.typed", "report/template.html", "export/page/index.html", "export/page/app.js"),
    asrkd_recipes: ("demo/study.yaml",),
}


def main(sdist: str) -> None:
    with tarfile.open(sdist) as tar:
        packed = {name.partition("/")[2] for name in tar.getnames()}
    for package, names in DATA.items():
        folder = Path(str(package.__file__)).parent
        if sys.prefix not in str(folder):
            sys.exit(f"FAILED: {package.__name__} is imported from {folder}, not from the wheel in {sys.prefix}")
        for name in names:
            if not (folder / name).is_file():
                sys.exit(f"FAILED: the wheel lacks {package.__name__}/{name}")
            if not any(path.endswith(f"{package.__name__}/{name}") for path in packed):
                sys.exit(f"FAILED: the sdist lacks {package.__name__}/{name}")
    print(f"the wheel of asrkd {asrkd.__version__} and its sdist are whole")


if __name__ == "__main__":
    main(sys.argv[1])
