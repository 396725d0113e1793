"""NIR files, the HDF5 files of the Neuromorphic Intermediate Representation, read with h5py alone.

hdf5.py        the file: groups and arrays, checked before anything is allocated
heap.py        texts, which HDF5 keeps in a heap
structure.py   nodes and edges, nested graphs flattened, in the order of evaluation
fields.py      what a node's fields may hold
sources.py     what a neuron's constants mean in each framework that writes such files
marks.py       who wrote a file, by what its exporter leaves in it
scales.py      Scale nodes, folded into the layers beside them
kinds.py       each kind of NIR node as nodes of ours
load.py        `td.load_nir`
"""
