"""Start of the command line, also as `python -m tet_deploy`."""

import os
import signal
import sys


def main() -> None:
    """Run the command line with one BLAS thread, unless the environment says otherwise.

    numpy's matrices are small here; where other programs keep the processor busy, OpenBLAS's second thread makes them ten
    times slower (the reference runtime of the demo took 28 s instead of 2 on a loaded machine with two cores).
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read once, when numpy is first imported
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that temporary folders are removed
    try:
        from tet_deploy.cli import main as run

        run()
    except KeyboardInterrupt:  # before the command itself began, or a second Ctrl-C
        os.write(2, b"error: interrupted; no file was left half-written.\n")
        os._exit(1)


if __name__ == "__main__":
    main()
