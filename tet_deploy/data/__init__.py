"""Frames and labels: real digits, shown to a simulated event camera, and files of your own. Frames are [T, N, C, H, W]."""

from tet_deploy.data.catalogue import DATA, DURATIONS, load
from tet_deploy.data.event_folder import load_event_folder
from tet_deploy.data.frames import LabelledFrames, check_labels, load_frames
from tet_deploy.data.image_folder import load_image_folder
from tet_deploy.data.sources import FrameData, FrameSource, collate, from_arrays

__all__ = [
    "DATA",
    "DURATIONS",
    "FrameData",
    "FrameSource",
    "LabelledFrames",
    "check_labels",
    "collate",
    "from_arrays",
    "load",
    "load_event_folder",
    "load_frames",
    "load_image_folder",
]
