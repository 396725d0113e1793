"""Exporters by name: each writes a deployable graph in another tool's format."""

# name -> "module:function", imported on use so that each needs its own libraries only
EXPORTERS = {
    "onnx": "tet_deploy.exporters.to_onnx:to_onnx",
    "lava": "tet_deploy.exporters.to_lava:to_lava",
}
