"""Other frameworks' layers: what each computes in the terms of torch's and of our nodes.

No framework is imported here. One that the user has not imported made none of his layers.
"""
