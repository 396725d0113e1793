"""What a pass requires of a network and what it ensures, checked as it runs; one that fails is named."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from tet_deploy.errors import note, shown
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.spec import Spec, check

Pass = TypeVar("Pass", bound=Callable[..., Graph])


def step(*, requires: Spec, ensures: Spec) -> Callable[[Pass], Pass]:
    """Check what a pass is given and what it makes of it."""

    def checked(run: Pass) -> Pass:
        @functools.wraps(run)
        def run_checked(graph: Graph, *args: Any, **kwargs: Any) -> Graph:
            return check(run(check(graph, requires), *args, **kwargs), ensures)

        return cast(Pass, run_checked)

    return checked


@contextmanager
def naming(run: Callable[..., Graph], before: Sequence[Callable[..., Graph]]) -> Iterator[None]:
    """Note in an error which pass it comes from, and which ran before it."""
    try:
        yield
    except Exception as error:
        earlier = f", after {', '.join(map(_name, before))}" if before else ""
        note(error, f"In the pass {_name(run)}{earlier}.")
        raise


def _name(run: Callable[..., Graph]) -> str:
    """A pass may be any callable, such as a partial, which has no name."""
    return str(getattr(run, "__name__", shown(run)))
