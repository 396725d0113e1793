"""Drive the bundle's arithmetic and Lava's own process models side by side; run in the Lava interpreter.

python against_lavas_models.py BUNDLE_CODE KIND SEED: exits with the first difference, or prints how many steps were equal.
"""

import sys

import numpy as np

sys.path.insert(0, sys.argv[1])

from lava.proc.conv.models import PyConvModelFixed
from lava.proc.conv.utils import output_shape
from lava.proc.lif.models import PyLifResetModelBitAcc
from loihi_engine.convolution import Convolution
from loihi_engine.neurons import Neurons, Population

STEPS, CASES = 12, 60
EXTREMES = [0, 1, -1, 2**17 - 1, 2**17, 2**17 + 1, -(2**17), -(2**17) - 1, 2**18, -(2**18) + 1, 2**23 - 1, -(2**23)]


class Port:
    """Stands for both ends of a channel."""

    def __init__(self):
        self.sent, self.incoming = [], None

    def send(self, data):
        self.sent.append(np.array(data))

    def recv(self):
        return self.incoming.copy()


def lif_pair(rng):
    period, offset = int(rng.integers(1, 6)), int(rng.integers(0, 9))
    shape = (3, 2, 4)
    du, dv = int(rng.choice([4095, 4095, 0, 1, 409, 2047, 4094])), int(rng.choice([0, 1, 1024, 2048, 3000, 4095]))
    threshold = int(rng.choice([0, 1, 2**17 - 1, rng.integers(0, 2**17)]))
    bias, exponent = rng.choice([0, 1, -1, 4095, -4096, 32767, -32768, 700], shape), int(rng.integers(0, 8))
    stock = PyLifResetModelBitAcc({"du": du, "reset_interval": period, "reset_offset": offset % period})
    stock.du, stock.dv, stock.vth = du, dv, threshold
    stock.bias_mant, stock.bias_exp = bias.astype(np.int16), np.full(shape, exponent, np.int16)
    stock.u, stock.v = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    stock.a_in, stock.s_out = Port(), Port()
    ours = Neurons([Population(shape, threshold, dv, du, bias, exponent, offset)], period)
    # Some of both: values at the limits, and values that let the potential creep about the threshold.
    span = int(rng.choice([40, 3000, 2**18]))
    extremes = EXTREMES if du == 4095 else EXTREMES[:6]  # a current that lives on must not leave int32

    def draw():
        if rng.random() < 0.4:  # one value at its limit, the others harmless
            return np.where(np.arange(24).reshape(shape) == 7, rng.choice(extremes), 1)
        return np.where(rng.random(shape) < 0.5, rng.choice(extremes, shape), rng.integers(-span, span + 1, shape))

    def step(time, data):
        stock.a_in.incoming, stock.time_step = data, time
        stock.run_spk()
        [spikes] = ours.step(time, [[data]])
        return (stock.s_out.sent[-1], stock.u, stock.v), (spikes, ours.u[0], ours.v[0])

    return draw, step


def conv_pair(rng):
    groups = int(rng.integers(1, 3))
    channels, out_channels = groups * int(rng.integers(1, 3)), groups * int(rng.integers(1, 3))
    kernel, stride, padding, dilation = (rng.integers(low, 3, 2).astype(np.int8) for low in (1, 1, 0, 1))
    weight = rng.integers(-127, 128, (out_channels, *kernel, channels // groups)).astype(np.int32)
    shape = (*(int(dilation[i]) * (int(kernel[i]) - 1) + 1 + int(rng.integers(0, 4)) for i in (0, 1)), channels)
    bits = int(rng.choice([0, 8]))
    stock = PyConvModelFixed({})
    stock.weight, stock.kernel_size = weight, kernel
    stock.stride, stock.padding, stock.dilation = stride, padding, dilation
    stock.groups, stock.num_message_bits = np.array([groups], np.int8), np.array([bits], np.int8)
    sums = np.zeros(output_shape(shape, out_channels, kernel, stride, padding, dilation), np.int32)
    stock.a_buf = sums
    stock.s_in, stock.a_out = Port(), Port()
    ours = Convolution(weight, shape, *(tuple(map(int, pair)) for pair in (stride, padding, dilation)), groups)
    limit = int(rng.choice([1, 127, 2**17, 2**20]))

    def draw():
        return (rng.random(shape) < 0.4) * rng.integers(-limit, limit + 1, shape)

    def step(time, data):
        nonlocal sums
        stock.s_in.incoming = data
        stock.run_spk()
        sent, sums = sums, ours(data if bits else data != 0)
        return (stock.a_out.sent[-1],), (sent,)

    return draw, step


def main():
    kind, rng, equal = sys.argv[2], np.random.default_rng(int(sys.argv[3])), 0
    for case in range(CASES):
        draw, step = {"lif": lif_pair, "conv": conv_pair}[kind](rng)
        for time in range(1, STEPS + 1):
            same = [np.array_equal(a, b) for a, b in zip(*step(time, draw().astype(np.int32)), strict=True)]
            if not all(same):
                sys.exit(f"{kind} case {case} step {time}: sent and states equal: {same}")
            equal += 1
    print(equal)


main()
