"""An interrupt in the middle of a solve."""

from convexlib.solvers.base import Tracker


def interrupt_after(monkeypatch, updates):
    """Interrupt at some call of Tracker.update."""
    plain, calls = Tracker.update, []

    def update(self, *args, **kwargs):
        calls.append(1)
        if len(calls) > updates:
            raise KeyboardInterrupt
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(Tracker, "update", update)
