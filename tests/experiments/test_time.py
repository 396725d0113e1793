"""Networks run for longer than they were trained for."""

import numpy as np

from tet_deploy.experiments import Setting
from tet_deploy.experiments.longer import longer
from tet_deploy.experiments.table4 import table4
from tet_deploy.experiments.time_scaling import time_scaling


def test_a_recording_is_played_again():
    """Step t shows frame t modulo T; fewer steps than frames cut it."""
    frames = np.arange(3).reshape(3, 1, 1)
    assert longer(frames, 8).ravel().tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert longer(frames, 2).ravel().tolist() == [0, 1]


def test_step_by_step_and_so_far_agree_at_the_first_step(recipes):
    """Table 4 and Fig. 4A train the same networks: a single first step decides as a run of one step does."""
    setting = Setting(data=recipes["digits"], seeds=(0, 1), samples=48)
    alone = table4(setting, trained_steps=(2, 3), steps=6).values["accuracy_of_single_steps"]
    so_far = time_scaling(setting, trained_steps=(2, 3), steps=9).values["accuracy_by_step"]
    assert set(alone) == set(so_far) == {"sdt, T = 2", "tet, T = 2", "sdt, T = 3", "tet, T = 3"}
    for name in alone:
        by_step, mean_so_far = np.array(alone[name]["by_step"]["by_seed"]), np.array(so_far[name]["by_step"]["by_seed"])
        assert by_step.shape == (2, 6)
        assert mean_so_far.shape == (2, 9)
        assert by_step[:, 0].tolist() == mean_so_far[:, 0].tolist()
        assert alone[name]["range"]["by_seed"] == np.ptp(by_step, axis=1).tolist()
