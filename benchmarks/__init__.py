"""Side-by-side timing of convexlib and its peers; never part of a test."""
