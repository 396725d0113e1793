"""What a neuromorphic chip holds, whether a network fits it, and which of its rules the network meets."""
