"""All attacks: importing a chapter's module registers its own."""

from tests.adversary import two_layer
from tests.adversary.search import FALSE, TRUE

__all__ = ["FALSE", "NO_CONCLUSION_TO_TEST", "TRUE", "two_layer"]

# Labels of statements that say nothing of finitely many numbers, each with the reason.
NO_CONCLUSION_TO_TEST: dict[str, str] = {}
