"""Start of the command line, also as `python -m tet_deploy`."""

import os


def main() -> None:
    """Run the command line with one BLAS thread, unless the environment says otherwise.

    numpy's matrices are small here; where other programs keep the processor busy, OpenBLAS's second thread makes them ten
    times slower (the reference runtime of the demo took 28 s instead of 2 on a loaded machine with two cores).
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read once, when numpy is first imported
    from tet_deploy.cli import main as run

    run()


if __name__ == "__main__":
    main()
