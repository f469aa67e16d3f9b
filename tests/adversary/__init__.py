"""A randomised search for counterexamples to the statements of the book.

Every module holds the attacks on one chapter: functions of a `Draw`, which makes data that are
degenerate more often than not. An attack tells the draw what the statement says of it, with the
tolerance that rounding or a solver's gap explains; missed by more than one tolerance it is a
counterexample. `@attack(label)` stands over attacks on statements of the book, and
`@refute(label, text)` over attacks on statements that were once believed and are false: those must
find something, or the search is too weak to mean anything (``test_adversary.py``).

    python -m tests.adversary --draws 1000 --record results/adversary/summary.json
"""
