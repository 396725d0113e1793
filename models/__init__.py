"""The networks that tet_deploy brings, by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tet_deploy.arguments import check_named
from tet_deploy.errors import ArgumentError, first_line

if TYPE_CHECKING:
    from torch import nn

MODELS = {  # name -> module:constructor; imported when built, so that the table can be read without torch
    "digits": "tet_deploy.models.digits:digits",
    "event-digits": "tet_deploy.models.digits:event_digits",
    "resnet19": "tet_deploy.models.resnet19:resnet19",
    "sew_resnet34": "tet_deploy.models.sew_resnet34:sew_resnet34",
    "snn5": "tet_deploy.models.snn5:snn5",
    "spiking_resnet34": "tet_deploy.models.spiking_resnet34:spiking_resnet34",
    "vgg_snn": "tet_deploy.models.vgg_snn:vgg_snn",
    "vgg_snn_strided": "tet_deploy.models.vgg_snn:vgg_snn_strided",
}


def build(name: str, *, seed: int | None = None, **arguments: Any) -> nn.Module:
    """Build a network with fresh weights.

    Parameters
    ----------
    name
        A key of MODELS.
    seed
        Seed of the initial weights; None draws them from torch's global generator.
    arguments
        For the constructor: shape (C, H, W), classes, width.

    Raises
    ------
    ArgumentError
        No model of that name, or an argument that it does not take.
    MissingDependencyError
        torch is not installed.
    """
    make = constructor(name)
    import torch

    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        try:
            model: nn.Module = make(**arguments)
        except TypeError as error:
            raise ArgumentError(f"model {name!r}: {first_line(error)}. See help(tet_deploy.models.build).") from error
    return model


def constructor(name: str) -> Callable[..., nn.Module]:
    """The function that builds a network with fresh weights.

    Raises
    ------
    ArgumentError
        No model of that name.
    MissingDependencyError
        torch is not installed.
    """
    check_named("model", name, MODELS)
    module, _, function = MODELS[name].partition(":")
    importlib.import_module("tet_deploy.nn")  # first: it says what to install where torch is missing
    make: Callable[..., nn.Module] = getattr(importlib.import_module(module), function)
    return make
