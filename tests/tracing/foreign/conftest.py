"""What the tests' own modules assert is told in full too."""

import pytest

pytest.register_assert_rewrite("snntorch_networks", "spikingjelly_networks")
