"""Events as they come, from a recording or a pipe, through a deployed network to decisions."""
