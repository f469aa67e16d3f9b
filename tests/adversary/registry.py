"""All attacks: importing a chapter's module registers its own."""

from importlib import import_module

from tests.adversary.search import FALSE, TRUE

__all__ = ["FALSE", "TRUE"]

CHAPTERS = (
    "rosetta", "two_layer", "drawn", "stationary", "outputs", "three_layer", "path", "algebra",
    "geometry", "mirrors", "looking_glass", "batchnorm", "recovery", "extensions", "generative",
    "signals", "algorithms", "certify", "certify_here", "own_data", "around", "experiments",
)  # fmt: skip
for name in CHAPTERS:
    import_module(f"tests.adversary.{name}")
