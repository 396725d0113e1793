"""The network as data: nodes, graphs, shapes, what each stage may contain, and the file that holds it."""
