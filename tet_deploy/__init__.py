"""tet_deploy: spiking networks from TET training to Lava, ONNX and an exact energy count."""

from pathlib import Path as _Path

_root = _Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "exporters").is_dir():
    # A checkout: exporters/, runtimes/ and models/ stand beside this folder. In an installed wheel they lie inside it.
    __path__.append(str(_root))
