"""Functions of a configuration that workers can import: they leave a trace, fail, or die."""

import errno
import os
import signal
import sys
import time
from pathlib import Path

from tqdm import tqdm

from convexlib.datasets import atomic
from experiments.runner import file_name, run

WORDS = ("begun", "ended")


def configs(count, **fields):
    return [{"seed": seed, **fields} for seed in range(count)]


def square(config):
    """Square the seed; a line in the file `log` for every call, begun and ended."""
    with open(config["log"], "a") as log:
        log.write(f"begun {config['seed']} {os.getpid()}\n")
    time.sleep(config.get("sleep", 0.0))
    with open(config["log"], "a") as log:
        log.write(f"ended {config['seed']} {os.getpid()}\n")
    made = time.time_ns()  # no two calls leave the same record
    return {
        "square": config["seed"] ** 2,
        "made": made,
        "filling": [config["seed"]] * config.get("filling", 0),
    }


def trace(path, word):
    """The seeds of the calls that have begun or ended, in order."""
    lines = [line.split() for line in Path(path).read_text().splitlines()]
    return [int(seed) for begun, seed, _ in lines if begun == word]


def open_calls(path):
    """Wait until some calls have begun and not ended; their seeds and processes."""
    found = set()
    while not found:
        lines = [line.split() for line in Path(path).read_text().splitlines()]
        calls = {word: {(int(k), int(pid)) for w, k, pid in lines if w == word} for word in WORDS}
        found = calls["begun"] - calls["ended"]
    return sorted(found)


def square_without_disk(config):
    """Square the seed in a process that then fails to write its records."""

    def fail(*_):
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    atomic.write = fail
    return square(config)


def dies(config):
    """End the process of the worker."""
    os.kill(os.getpid(), signal.SIGKILL)


def fails(config):
    raise ValueError(f"no {config['seed']}")


def run_squares(folder, wanted, jobs=None):
    run("toy", square, wanted, folder=folder, jobs=jobs)


def square_behind_a_bar(config):
    """Square the seed in a process that has a progress bar, and hence its lock."""
    tqdm(disable=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as of a process deep in compiled code
    return square(config)


def run_until_interrupted(folder, count):
    """Run in two processes, and say in one line that a keystroke has ended it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells turn off behind "&"
    log = folder / "log"
    log.touch()
    wanted = configs(count, log=str(log), sleep=600.0)
    try:
        run("toy", square_behind_a_bar, wanted, folder=folder, jobs=2)
    except KeyboardInterrupt as stopped:
        sys.stderr.write(f"{stopped}\n")


def run_one_by_one(folder, wanted):
    for config in wanted:
        run_squares(folder, [config])


def run_until(folder, wanted, moment):
    """Run, and be killed at one step of writing the second record."""
    die_at(file_name(wanted[1]), moment)
    run_squares(folder, wanted)


def run_and_fold_until(folder, wanted, moment):
    """Run, and be killed at one step of making lines of the records."""
    die_at(".json" if moment == "unlink" else "records.jsonl", moment)
    run_squares(folder, wanted)


def die_at(name, moment):
    """Let this process be killed at one step of writing, or removing, a file of this name."""

    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    def half(path, mode):
        stream = real(path, mode)
        stream.write(b"{")
        stream.flush()
        die()

    def after(path, target):
        os.replace(path, target)
        die()

    owner, attribute, step = {
        "open": (Path, "open", die),
        "write": (Path, "open", half),
        "fsync": (os, "fsync", die),
        "replace": (Path, "replace", die),
        "replaced": (Path, "replace", after),
        "unlink": (Path, "unlink", die),
    }[moment]
    real = getattr(owner, attribute)

    def stepped(target, *arguments, **options):
        path = os.readlink(f"/proc/self/fd/{target}") if owner is os else target.name
        meant = name in path and (attribute != "open" or arguments[:1] == ("wb",))
        return (step if meant else real)(target, *arguments, **options)

    setattr(owner, attribute, stepped)
