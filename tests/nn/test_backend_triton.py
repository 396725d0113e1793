"""The Triton kernels compute what the layers compute: on a GPU where there is one, else in Triton's interpreter on a CPU."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from tet_deploy.nn import LIF, lif, lif_by_steps, use_backend
from tet_deploy.nn.norm_lif import norm_lif

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported, on their first use
triton = pytest.importorskip("triton")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("steps", [1, 4, 10, 20])  # more than 16 are not unrolled
@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_spikes_and_gradients_equal_the_step_loop(dtype, steps, decay):
    """Spikes are bit-equal to those of the plain loop, gradients to rounding in the input's dtype."""
    current, weights = (torch.randn(2, steps, 3, 7, 11, generator=torch.Generator().manual_seed(0)) * 1.5).to(DEVICE, dtype)
    found, expected = ([] for _ in range(2))
    for function, chosen, values in ((lif, "triton", found), (lif_by_steps, "auto", expected)):
        x = current.clone().requires_grad_()
        with use_backend(chosen):
            spikes = function(x, decay)
        (spikes * weights).sum().backward()
        values += [spikes.detach(), x.grad]
    assert torch.equal(found[0], expected[0])
    precision = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[dtype]  # twice its rounding
    torch.testing.assert_close(found[1], expected[1], rtol=precision, atol=precision)


@pytest.mark.parametrize("channels", [1, 5, 70])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("case", ["norm", "static", "plus a value", "plus a norm"])
def test_fused_batch_norm_equals_the_layers(case, layout, channels):
    """Spikes, gradients and running statistics agree with the layers in float64 to float rounding."""
    steps, samples = 4, 3
    random = torch.Generator().manual_seed(2)
    x = torch.randn(samples if case == "static" else steps * samples, channels, 3, 5, generator=random) * 2 + 3
    other, weights = torch.randn(2, steps * samples, channels, 3, 5, generator=random)
    found, expected = ([] for _ in range(2))
    for values, dtype in ((found, torch.float32), (expected, torch.float64)):
        a = x.clone().to(DEVICE, dtype).contiguous(memory_format=layout).requires_grad_()
        b = other.clone().to(DEVICE, dtype).requires_grad_()
        norm, other_norm = nn.BatchNorm2d(channels).to(DEVICE, dtype), nn.BatchNorm2d(channels).to(DEVICE, dtype)
        second = {"plus a value": (b,), "plus a norm": (b, other_norm)}.get(case, ())
        if dtype is torch.float32:
            with use_backend("triton"):
                spikes = norm_lif(a, norm, LIF(0.9), steps, *second, repeated=case == "static")
        else:
            current = norm(a.repeat(steps, 1, 1, 1) if case == "static" else a)
            current = current + (other_norm(b) if len(second) == 2 else b if second else 0)
            spikes = lif_by_steps(current.unflatten(0, (steps, samples)), 0.9).flatten(0, 1)
        (spikes * weights.to(DEVICE, dtype)).sum().backward()
        leaves = (a, b, *norm.parameters(), *other_norm.parameters())
        values += [spikes, *(leaf.grad for leaf in leaves), norm.running_mean, norm.running_var, other_norm.running_var]
    for value, wanted in zip(found, expected, strict=True):
        assert (value is None) == (wanted is None)
        if value is not None:
            # a channel's sums over 180 values of size 1 lose some 100 roundings of 6e-8
            torch.testing.assert_close(value.double(), wanted.double(), rtol=1e-5, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [4, 10, 64])
@pytest.mark.parametrize("second", [0, 2])
def test_the_kernels_compile_for_a_gpu(steps, second):
    """Both kernels compile for an H100, and no multiplication is fused with an addition: spikes would differ."""

    code = f"""
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
import triton
from tet_deploy.nn import triton_kernels as kernels
kinds = dict(decay="fp32", threshold="fp32", gamma="fp32", neurons="i32", channels="i32", inner="i32")
kinds |= {{name: "*bf16" for name in ("out", "x", "y", "grad", "grad_spikes")}}
flags = dict(NORMED=True, SECOND={second}, REPEATED=False, STEPS={steps}, LONG={steps} > 16, P=4, C=64, POTENTIALS=False)
for kernel in (kernels.forward, kernels.backward):
    constants = {{name: flags[name] for name in kernel.arg_names if name in flags}}
    signature = {{n: "constexpr" if n in constants else kinds.get(n, "*fp32") for n in kernel.arg_names}}
    source = ASTSource(kernel, signature, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={{"enable_fp_fusion": False}})
    assert "fma.rn" not in compiled.asm["ptx"]
"""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
