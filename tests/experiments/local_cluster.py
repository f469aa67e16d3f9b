"""A Dask cluster on this machine, until its standard input ends: `python -m ... FILE N THREADS`.

In a process of its own, because dask's are not free of the warnings that are errors in tests. The
workers are forked from a process that has imported what they need, once.
"""

import logging
import multiprocessing
import sys
from multiprocessing import forkserver

import dask
from distributed import LocalCluster

if __name__ == "__main__":
    file, n_workers, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})
    needed = ["distributed", "tests.experiments.toys"] if threads == 1 else ["distributed"]
    multiprocessing.get_context("forkserver").set_forkserver_preload(needed)
    if n_workers:
        forkserver.ensure_running()
    with LocalCluster(
        n_workers=n_workers,
        threads_per_worker=threads,
        processes=True,
        dashboard_address=None,
        scheduler_kwargs={"scheduler_file": file},
        silence_logs=logging.CRITICAL,
    ):
        sys.stdin.read()
