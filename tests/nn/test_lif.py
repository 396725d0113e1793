"""The LIF layer computes eqs. 1-3 forward and their gradient with the surrogate of eq. 5 backward, bit for bit."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tet_deploy import dynamics
from tet_deploy.errors import ArgumentError, DataError, ExecutionError
from tet_deploy.nn import LIF, lif, lif_by_steps, surrogate_gradient, use_backend

currents = st.builds(
    lambda seed, steps, on_grid: draw_current(seed, steps, on_grid),
    seed=st.integers(0, 2**32 - 1),
    steps=st.integers(1, 8),
    on_grid=st.booleans(),
)
parameters = st.fixed_dictionaries(
    {
        "decay": st.sampled_from([0.0, 0.5, 0.9, 1.0]),
        "threshold": st.sampled_from([0.5, 1.0, 1.3]),
        "gamma": st.sampled_from([0.5, 1.0, 2.0]),
    }
)


def draw_current(seed, steps, on_grid):
    """Random input; on a grid of 1/4 many membrane potentials meet the threshold exactly."""
    current = torch.randn(steps, 3, 17, generator=torch.Generator().manual_seed(seed)) * 1.2 + 0.3
    return (current * 4).round() / 4 if on_grid else current


def gradient(function, current, weights, **parameters):
    current = current.clone().requires_grad_()
    spikes = function(current, **parameters)
    (spikes * weights).sum().backward()
    return spikes.detach(), current.grad


@given(current=currents, parameters=parameters)
def test_spikes_and_gradients_equal_the_step_loop(backend, current, parameters):
    """Spikes and gradients of every backend are bit-equal to those of the plain loop under autograd."""
    weights = torch.randn(current.shape, generator=torch.Generator().manual_seed(1))
    with use_backend(backend):
        spikes, grad = gradient(lif, current, weights, **parameters)
    expected_spikes, expected_grad = gradient(lif_by_steps, current, weights, **parameters)
    assert torch.equal(spikes, expected_spikes)
    assert torch.equal(grad, expected_grad)


def test_a_gamma_that_is_no_power_of_two_costs_one_rounding(backend):
    """The C backend multiplies by 1/gamma^2 where torch divides: gradients agree to a few units in the last place."""
    current = draw_current(11, 10, False)
    weights = torch.rand(current.shape)
    with use_backend(backend):
        spikes, grad = gradient(lif, current, weights, gamma=0.7)
    expected_spikes, expected = gradient(lif_by_steps, current, weights, gamma=0.7)
    assert torch.equal(spikes, expected_spikes)
    torch.testing.assert_close(grad, expected, rtol=0, atol=1e-5)  # 10 steps add up; gradients are about 1 to 10


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_half_precision_input_has_a_float32_membrane(dtype):
    """Spikes come in the input's dtype; the membrane potential is at least float32, as in the plain loop."""
    current = draw_current(7, 6, False).to(dtype)
    weights = torch.rand(current.shape, dtype=dtype)
    spikes, grad = gradient(lif, current, weights)
    expected_spikes, expected = gradient(lif_by_steps, current, weights)
    assert spikes.dtype == grad.dtype == dtype
    assert torch.equal(spikes, expected_spikes)
    torch.testing.assert_close(grad, expected, rtol=2e-2, atol=2e-2)  # bfloat16 has 8 bits
    if dtype != torch.float64:
        assert torch.equal(spikes.float(), lif(current.float()))


@pytest.mark.parametrize("steps", [1, 4, 70])
def test_bfloat16_is_computed_with_in_float32(backend, steps):
    """Every backend's spikes are those of the same values in float32, its gradients those rounded, bit for bit."""
    current, weights = (torch.randn(2, steps, 3, 77, generator=torch.Generator().manual_seed(0)) * 2).bfloat16()
    with use_backend(backend):
        spikes, grad = gradient(lif, current, weights, decay=0.9)
        expected, expected_grad = gradient(lif, current.float(), weights.float(), decay=0.9)
    assert spikes.dtype == torch.bfloat16 and torch.equal(spikes.float(), expected)
    assert torch.equal(grad, expected_grad.bfloat16())


@pytest.mark.parametrize("steps", [1, 2, 10, 70])
@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 300, 3), (2, 3, 5, 7)])
def test_any_number_of_steps_and_any_shape(backend, steps, shape):
    """[T, ...] of any sizes, more and fewer than the C backend's chunks of 128 neurons."""
    current, weights = torch.randn(2, steps, *shape) + 0.3
    with use_backend(backend):
        found = gradient(lif, current, weights)
    for value, expected in zip(found, gradient(lif_by_steps, current, weights), strict=True):
        assert torch.equal(value, expected)


@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),  # batch outermost
        lambda x: x.repeat_interleave(2, dim=2)[:, :, ::2],  # gaps
        lambda x: x.flip(0),
        lambda x: x[:1].expand(4, -1, -1, -1),  # the same at every step
        lambda x: x[:, :0],  # nobody
        lambda x: x[:, :, :, :1],
    ],
)
def test_strides_do_not_matter(backend, layout):
    """Input, and the gradient that comes back, may lie in memory as they like."""
    current, weights = (layout(x) for x in torch.randn(2, 4, 3, 6, 5) + 0.3)
    with use_backend(backend):
        found = gradient(lif, current, weights)
    expected = gradient(lif_by_steps, current.contiguous(), weights.contiguous())
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_second_derivative_is_refused():
    """A gradient penalty would silently be a constant; it is an error."""
    current = torch.randn(3, 4, requires_grad=True)
    with pytest.raises(ExecutionError, match="create_graph"):
        torch.autograd.grad(lif(current).sum(), current, create_graph=True)


@given(current=currents, parameters=parameters)
def test_spikes_equal_those_of_the_neuron_stated_once(current, parameters):
    """The layer fires exactly where dynamics.lif_step does in float32."""
    v = np.zeros(current.shape[1:], np.float32)
    expected = []
    for step in current.numpy():
        spikes, v = dynamics.lif_step(v, step, parameters["decay"], parameters["threshold"])
        expected.append(spikes)
    np.testing.assert_array_equal(lif(current, **parameters).numpy(), np.stack(expected))


@pytest.mark.parametrize(
    ("u", "threshold", "gamma", "expected"),
    [
        (1.0, 1.0, 1.0, 1.0),
        (1.25, 1.0, 1.0, 0.75),
        (0.25, 1.0, 1.0, 0.25),
        (0.0, 1.0, 1.0, 0.0),
        (-3.0, 1.0, 1.0, 0.0),
        (2.5, 1.0, 1.0, 0.0),
        (1.0, 1.0, 2.0, 0.5),
        (2.0, 1.0, 2.0, 0.25),
        (0.5, 0.5, 0.5, 2.0),
    ],
)
def test_surrogate_is_the_triangle_of_eq_5(u, threshold, gamma, expected):
    """ds/du = max(0, gamma - |u - threshold|) / gamma^2."""
    assert surrogate_gradient(torch.tensor(u), threshold, gamma).item() == expected


def test_gradient_flows_through_the_reset():
    """With u(1) = 1.25 firing and u(2) = 0.75, ds(2)/dI(1) = h(u2) * decay * -u1 * h(u1), not 0 as with a detached reset."""
    current = torch.tensor([[1.25], [0.75]], requires_grad=True)
    lif(current)[1].sum().backward()
    assert current.grad.flatten().tolist() == [0.75 * 0.5 * (-1.25 * 0.75), 0.75]


def test_a_potential_at_the_threshold_does_not_fire():
    """The comparison is strict."""
    assert lif(torch.tensor([[1.0, 1.0 + 2**-20]])).tolist() == [[0.0, 1.0]]


def test_only_the_input_is_kept_for_the_backward_pass():
    """Memory for the backward pass is one tensor: the input itself, not a copy."""
    kept = []
    current = torch.randn(6, 2, 5, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        lif(current)
    assert [tensor.data_ptr() for tensor in kept] == [current.data_ptr()]


def test_memory_layout_does_not_matter():
    """Channels-last input gives the spikes and gradients of contiguous input."""
    current = draw_current(3, 4, False).reshape(4, 3, 17, 1, 1).expand(4, 3, 17, 2, 2) + torch.rand(2)
    channels_last = current.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (4, 3))
    weights = torch.rand(current.shape)
    for found, expected in zip(gradient(lif, channels_last, weights), gradient(lif, current, weights), strict=True):
        assert torch.equal(found, expected)


def test_calls_do_not_remember_each_other():
    """Each call starts from membrane potential zero."""
    layer, current = LIF(), draw_current(5, 6, False)
    assert torch.equal(layer(current), layer(current))


@pytest.mark.parametrize("current", [torch.ones(4), torch.ones(0, 2, 3), torch.ones(2, 3, dtype=torch.int64)])
def test_input_must_be_floats_over_time(current):
    """Input without a time axis, without a step or of integers is refused."""
    with pytest.raises(DataError, match=r"\[T, B, \.\.\.\]"):
        LIF()(current)


@pytest.mark.parametrize(
    "arguments",
    [
        *({"decay": 1.5}, {"decay": -0.1}, {"decay": float("nan")}),
        *({"threshold": 0.0}, {"threshold": float("inf")}, {"threshold": float("nan")}, {"gamma": 0.0}),
    ],
)
def test_parameters_out_of_range_are_refused(arguments):
    """A decay outside [0, 1] and a threshold or gamma that is not positive and finite are refused."""
    with pytest.raises(ArgumentError, match="LIF"):
        LIF(**arguments)


@pytest.mark.parametrize("name", ["decay", "threshold", "gamma"])
@pytest.mark.parametrize("value", [np.float32(0.5), np.float64(0.5), np.array(0.5), torch.tensor(0.5), torch.tensor([0.5])])
def test_parameters_may_be_numbers_of_numpy_and_torch(name, value):
    """A scalar of either library, or a tensor that holds one value, is that number."""
    assert getattr(LIF(**{name: value}), name) == 0.5
    current = draw_current(5, 6, False)
    assert torch.equal(lif(current, **{name: value}), lif(current, **{name: 0.5}))


NO_NUMBERS = {
    "per channel": (
        torch.tensor([0.5, 0.9]),
        r"must be one number, .*a Tensor of shape \(2,\)\. Let neurons that differ be",
    ),
    "array": (np.array([[0.5, 0.9]]), r"a ndarray of shape \(1, 2\)"),
    "list": ([0.5, 0.9], r"a list, \[0\.5, 0\.9\]"),
    "text": ("0.5", "a str, '0.5'"),
    "nothing": (None, "a NoneType, None"),
    "complex": (torch.tensor(1j), r"a Tensor of shape \(\)"),
    "learned": (nn.Parameter(torch.tensor(0.5)), "is fixed and cannot be trained; got a Parameter .*Give a number"),
    "learned vector": (nn.Parameter(torch.tensor([0.5, 0.9])), "cannot be trained"),
    "with a gradient": (torch.tensor(0.5, requires_grad=True), "cannot be trained; got a Tensor"),
}


@pytest.mark.parametrize("name", ["decay", "threshold", "gamma"])
@pytest.mark.parametrize("case", NO_NUMBERS)
def test_parameters_that_are_not_one_fixed_number_are_refused(name, case):
    """When the layer is made, when the function is called, and when the layer is given one later; never frozen silently."""
    value, message = NO_NUMBERS[case]
    current, layer = draw_current(5, 6, False), LIF()
    delattr(layer, name)
    setattr(layer, name, value)
    for call in (lambda: LIF(**{name: value}), lambda: lif(current, **{name: value}), lambda: layer(current)):
        with pytest.raises(ArgumentError, match=f"LIF: {name} {message}" if case == "per channel" else message) as caught:
            call()
        assert f"LIF: {name}" in str(caught.value) and len(str(caught.value)) < 250
