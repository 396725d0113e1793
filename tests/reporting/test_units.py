import pytest

from tet_deploy.reporting.units import energy_text, percent, significant


@pytest.mark.parametrize(
    ("picojoules", "text"),
    [
        (0, "0 pJ"),
        (0.0432, "0.0432 pJ"),
        (5.5, "5.50 pJ"),
        (999.6, "1,000 pJ"),
        (1912.9, "1.91 nJ"),
        (8.15e6, "8.15 µJ"),
        (1.0196e10, "10.2 mJ"),
        (3e12, "3.00 J"),
    ],
)
def test_energies_have_a_fitting_unit(picojoules, text):
    """The unit keeps the number between 1 and 1000, to three digits."""
    assert energy_text(picojoules) == text


def test_numbers_are_never_in_exponent_form():
    """Counts have thousands separated and small numbers all their zeros."""
    assert [significant(x) for x in (1234567.8, 203.136, 0.00123, -4.5)] == ["1,234,568", "203", "0.00123", "-4.50"]
    assert [significant(x) for x in (9.998, 0.9996, 999.7)] == ["10.0", "1.00", "1,000"]  # rounding adds a digit
    assert percent(0.98333) == "98.3 %"
