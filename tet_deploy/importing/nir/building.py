"""What grows while a NIR file is read: our nodes, their shapes, and what was said about the file."""

from __future__ import annotations

from dataclasses import dataclass, field

from tet_deploy.importing.nir.sources import Source
from tet_deploy.ir.nodes import Add, Node, Output
from tet_deploy.ir.shapes import Shape, output_shape


@dataclass
class Building:
    """The nodes so far, and what was said about the file."""

    source: Source | None
    reset: str | None
    dt: float | None
    nodes: list[Node] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)  # names of the file's own nodes
    has_lines: bool = False  # samples are [C, L] in the file, [C, 1, L] here

    def add(self, node: Node) -> str:
        """Append a node that fits; its name."""
        self.shapes[node.name] = output_shape(node, tuple(self.shapes[name] for name in node.inputs))
        self.nodes.append(node)
        return node.name

    def sum_of(self, names: tuple[str, ...], user: str) -> str:
        """One node that sends what these send together."""
        return names[0] if len(names) == 1 else self.add(Add(name=self.new_name(f"{user}.sum"), inputs=names))

    @property
    def readout(self) -> str | None:
        """The name of the readout, if the file has said of what kind it is."""
        return next((node.name for node in self.nodes if isinstance(node, Output)), None)

    def new_name(self, name: str) -> str:
        """That name, or one like it that no node has."""
        number, free = 1, name
        while free in self.taken:
            number += 1
            free = f"{name}_{number}"
        self.taken.add(free)
        return free

    def shape_in_file(self, name: str) -> Shape:
        """What the file calls the shape of what a node of ours sends."""
        shape = self.shapes[name]
        return (shape[0], shape[2]) if self.has_lines and len(shape) == 3 else shape
