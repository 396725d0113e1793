"""Exported files run in a web page, and give there what they give on ONNX Runtime.

onnxruntime-web and a headless Chromium come from npm, pinned, into a folder of their own: tests/exporters/web/node_modules.
"""

import base64
import json
import os
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tet_deploy.exporters.to_onnx import to_onnx
from tet_deploy.ir.artifact import load

pytestmark = pytest.mark.slow
WEB = Path(__file__).parent / "web"
TRAINED = Path(__file__).parents[1] / "versions" / "v0_1"  # real networks: trained on digits, and of events
NETWORKS = ("digits.float", "digits.int8", "events.float", "events.int8")


def _tensor(array: np.ndarray) -> dict:
    return {"type": array.dtype.name, "dims": list(array.shape), "data": base64.b64encode(array.tobytes()).decode()}


def _array(tensor: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(tensor["data"]), tensor["type"]).reshape(tensor["dims"])


@pytest.mark.parametrize("where", ["node", "browser"])
def test_a_web_page_gives_the_same_integers(where, in_web, tmp_path):
    """Every spike, potential and readout of float and integer networks, whole runs and a step from states, is equal."""
    jobs, expected = [], []
    for network in NETWORKS:
        graph = load(TRAINED / f"{network}.safetensors")
        frames = np.load(TRAINED / f"{network.partition('.')[0]}.frames.npz")["frames"].astype(np.float32)
        for stream in (False, True):
            path = to_onnx(graph, tmp_path / f"{network}.{stream}.onnx", probes="all", ranges=True, stream=stream)
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            feeds = {"frames": frames}
            if stream:
                feeds = {"frames": frames[:1], **_some_states(session, frames.shape[1])}
            names = [output.name for output in session.get_outputs()]
            expected.append(dict(zip(names, session.run(names, feeds), strict=True)))
            jobs.append({"model": str(path), "inputs": {name: _tensor(array) for name, array in feeds.items()}})
    told = json.loads(in_web("run.mjs", where, job=jobs))
    assert told["browser"].startswith("Chromium" if where == "browser" else "node")
    for job, want, found in zip(jobs, expected, told["found"], strict=True):
        assert set(found) == set(want)
        for name, array in want.items():
            if name == "logits":  # a mean in float32, whose order of summation is the runtime's
                np.testing.assert_allclose(_array(found[name]), array, rtol=1e-6, atol=1e-6, err_msg=job["model"])
            else:
                np.testing.assert_array_equal(_array(found[name]), array, err_msg=f"{job['model']}: {name}")
    assert any(array.any() for want in expected for name, array in want.items() if name.endswith(".spikes"))


def _some_states(session, samples: int) -> dict[str, np.ndarray]:
    """Potentials that a run may leave, of every state."""
    rng, states = np.random.default_rng(0), {}
    for source in session.get_inputs()[1:]:
        shape = [samples, *source.shape[1:]]
        values = rng.integers(-5, 6, shape)
        states[source.name] = (values / 16).astype(np.float32) if "float" in source.type else values.astype(np.int32) * 999
    return states


def test_the_page_for_strangers_decides_in_javascript(in_web, tmp_path):
    """The function of docs/onnx.md, run under node, gives the class that ONNX Runtime gives."""
    (code,) = re.findall(r"```javascript\n(.*?)```", (Path(__file__).parents[2] / "docs" / "onnx.md").read_text(), re.DOTALL)
    graph = load(TRAINED / "digits.int8.safetensors")
    image = np.load(TRAINED / "digits.frames.npz")["frames"][0, 0]
    path = to_onnx(graph, tmp_path / "net.onnx")
    page = WEB / f"page-{os.getpid()}.mjs"
    shown = f"{json.dumps(image.ravel().tolist())}, {list(image.shape)}, 3"
    call = f"console.log(await decide(await readFile({json.dumps(str(path))}), {shown}));"
    page.write_text(f'import {{ readFile }} from "node:fs/promises";\n{code}\n{call}\n')
    try:
        decided = in_web(page)
    finally:
        page.unlink()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"frames": np.repeat(image[None, None], 3, axis=0)})
    assert int(decided) == logits.argmax()
