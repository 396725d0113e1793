"""Small recipes for the experiments."""

import pytest

RECIPE = """
threads = 1

[model]
name = "{data}"
arguments = {{ width = 0.5 }}

[data]
name = "{data}"

[[stages]]
steps = {steps}
epochs = 2
learning_rate = 5e-3
batch_size = 12
"""


@pytest.fixture(scope="session")
def recipes(tmp_path_factory):
    """Paths of recipes by data: half as wide as the demo's, two epochs, twelve samples a batch."""
    folder = tmp_path_factory.mktemp("recipes")
    paths = {}
    for data, steps in (("digits", 3), ("event-digits", 3)):
        paths[data] = folder / f"{data}.toml"
        paths[data].write_text(RECIPE.format(data=data, steps=steps))
    return {data: str(path) for data, path in paths.items()}
