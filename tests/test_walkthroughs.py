"""The pages that lead from another framework to Loihi do what they say."""

import importlib.util
import re
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
DOCS = Path(__file__).parents[1] / "docs"
PAGES = {
    "from_spikingjelly.md": "spikingjelly",
    "from_snntorch.md": "snntorch",
    "from_nir.md": "h5py",
}  # page -> what it needs


@pytest.mark.parametrize("page", PAGES)
def test_a_network_trained_elsewhere_comes_to_lava_with_equal_spikes(page, tmp_path, monkeypatch, lava_python):
    """The page's own code trains, traces, quantizes and exports, and what it proves holds."""
    if importlib.util.find_spec(PAGES[page]) is None:
        pytest.skip(f"needs {PAGES[page]}: pip install --no-deps -r benchmarks/requirements.txt")
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL))
    found: dict = {}
    exec(compile(code, page, "exec"), found)
    before = found["before"].total
    assert before.first_causes == before.explained and before.differing < 1e-4 * before.spikes and before.spikes > 5 * 10**5
    assert found["after"].accuracy.first > 0.9 and found["after"].accuracy.second > 0.9
    assert set(found["agreements"]) == {"onnx", "lava"}
    assert all(agreement.equal for agreement in found["agreements"].values())
    assert found["energy"].samples == 360
    assert (tmp_path / "digits.onnx").stat().st_size > 1000 and (tmp_path / "digits.lava" / "run.py").exists()
