"""Programs that heed Ctrl-C."""

import signal


def heed_interrupts():
    """For `preexec_fn`: what a shell starts in the background ignores it, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
