"""What fits a device is estimated from what a smaller batch was measured to need."""

import pytest
import torch

from tet_deploy.training.memory import samples_that_fit


class Device:
    """Memory of so many bytes, of which weights take some; a pass needs so many for each sample, besides a workspace."""

    def __init__(self, memory, weights=100, per_sample=50, workspace=0):
        self.memory, self.weights, self.per_sample, self.workspace = memory, weights, per_sample, workspace
        self.most, self.tried = weights, []

    def probe(self, samples):
        self.tried.append(samples)
        needed = self.weights + self.workspace + self.per_sample * samples
        if needed > self.memory:
            raise torch.cuda.OutOfMemoryError
        self.most = max(self.most, needed)

    def limit(self):
        return self.memory

    def used(self):
        return self.weights

    def peak(self):
        return self.most

    def forget_peak(self):
        self.most = self.weights


def test_the_peak_of_a_pass_that_fits_gives_the_largest_batch():
    """95 % of the memory, less weights, divided by the peak per sample: (0.95 * 10000 - 100) / 50 = 188 samples."""
    device = Device(10_000)
    assert samples_that_fit(device.probe, 512, device) == 188
    assert device.tried == [256, 128]


@pytest.mark.parametrize("memory", [400, 3_000, 9_999])
@pytest.mark.parametrize("workspace", [0, 200])
def test_what_is_said_to_fit_fits(memory, workspace):
    """Whatever the memory, and also where a part of the peak does not grow with the batch."""
    device = Device(memory, workspace=workspace)
    fits = samples_that_fit(device.probe, 1000, device)
    if fits:
        device.probe(fits)


def test_moments_that_do_not_exist_yet_are_reserved():
    """The first update of Adam needs twice the weights besides."""
    device = Device(10_000)
    assert samples_that_fit(device.probe, 512, device, reserve=1000) == 168


def test_nothing_fits_is_zero_and_never_more_than_was_too_much():
    """Not one sample: 0. An estimate is below the batch that failed."""
    device = Device(120)
    assert samples_that_fit(device.probe, 64, device) == 0
    device = Device(10_000)
    assert samples_that_fit(device.probe, 180, device) == 179


def test_without_a_measurement_what_was_tried_is_the_answer():
    """A device that cannot be measured: halves until it fits."""
    device = Device(10_000)
    assert samples_that_fit(device.probe, 512, None) == 128
