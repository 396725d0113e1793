"""tet_deploy: spiking networks from TET training to Lava, ONNX and an exact energy count."""
