"""Frames and labels: real digits, shown to a simulated event camera, and files of your own. Frames are [T, N, C, H, W]."""

from tet_deploy.data.digits import DATA, DigitData, load
from tet_deploy.data.frames import LabelledFrames, check_labels, load_frames

__all__ = ["DATA", "DigitData", "LabelledFrames", "check_labels", "load", "load_frames"]
