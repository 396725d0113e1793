"""Every data set by name, and the one function that loads them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tet_deploy.arguments import nearest, whole
from tet_deploy.data.cifar import load_cifar
from tet_deploy.data.digits import load_digits, load_event_digits
from tet_deploy.data.event_camera import EventCamera
from tet_deploy.data.event_folder import load_event_folder, load_frames_file
from tet_deploy.data.event_sets import load_event_set
from tet_deploy.data.image_folder import load_imagenet
from tet_deploy.data.sources import FrameData
from tet_deploy.errors import ArgumentError

DATA: dict[str, Callable[..., FrameData]] = {
    "digits": load_digits,
    "event-digits": load_event_digits,
    "dvs-cifar10": partial(load_event_set, "dvs-cifar10"),
    "n-mnist": partial(load_event_set, "n-mnist"),
    "dvs-gesture": partial(load_event_set, "dvs-gesture"),
    "cifar10": partial(load_cifar, "cifar10"),
    "cifar100": partial(load_cifar, "cifar100"),
    "imagenet": load_imagenet,
}
DURATIONS = {"event-digits": EventCamera().duration}  # microseconds of every sample, where they last equally long


def load(name: str, *, steps: int, seed: int = 0, **options: Any) -> FrameData:
    """Load a data set by name, or one of your own by its path.

    Parameters
    ----------
    name
        In `DATA`; each loader's own docstring says what it gives. Or a folder of event files (see load_event_folder), or an
        .npz of frames and labels.
    steps
        Number of time steps T.
    seed
        Of what is random: augmentation; and of digits and an .npz the split.
    options
        What the loader takes besides, such as `root`, `augmentation`, `size`, `cache`, `progress`.

    Raises
    ------
    ArgumentError
        An unknown name or option, or no step.
    DataError
        Files that are missing or do not fit; the message says what to do.
    ArtifactError
        A file that cannot be read.
    MissingDependencyError
        A library that this data set needs is not installed.

    Examples
    --------
    >>> data = load("dvs-cifar10", steps=10, augmentation={"flip": True, "roll": 5})  # doctest: +SKIP
    >>> frames, label = data.train[0]  # doctest: +SKIP
    """
    steps, seed = whole(f"steps of data {name!r}", steps), whole(f"seed of data {name!r}", seed, least=0)
    if not options.get("augmentation"):
        options.pop("augmentation", None)  # not every loader takes one, and every loader does without
    loader = _loader(name)
    given = {"steps": steps, "seed": seed, **options}
    _check_options(name, loader, given)
    return loader(**given)


def _check_options(name: str, loader: Callable[..., FrameData], given: Mapping[str, Any]) -> None:
    parameters = inspect.signature(loader).parameters.values()
    known = {parameter.name: parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    for option in given:
        if option not in known:
            hint = nearest(option, known, f" It takes {', '.join(known)}.")
            raise ArgumentError(f"data {name!r}: has no option {option!r}.{hint}")
    for option, parameter in known.items():
        if parameter.default is parameter.empty and option not in given:
            raise ArgumentError(f"data {name!r}: needs {option}=, of type {parameter.annotation}; it was left out.")


def _loader(name: str) -> Callable[..., FrameData]:
    if name in DATA:
        return DATA[name]
    path = Path(name).expanduser()
    if path.is_dir():
        return partial(load_event_folder, root=path)
    if path.is_file():
        return partial(load_frames_file, root=path)
    known = ", ".join(DATA)
    raise ArgumentError(
        f"data {name!r}: there is no such file or folder, nor a data set of that name. Use one of {known}, a folder of "
        f"event files, or an .npz.{nearest(name, DATA)}"
    )
