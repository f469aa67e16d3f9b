"""A randomised search for counterexamples to the statements of the book.

Every module holds the attacks on one chapter: functions of a `Draw`, which makes data that are
degenerate more often than not. An attack returns by how much its statement's conclusion is missed,
as a multiple of the tolerance that rounding or a solver's gap explains; above 1 it has found a
counterexample. `@attack(label)` stands over attacks on statements of the book, and
`@refute(label, text)` over attacks on statements that were once believed and are false: those must
find something, or the search is too weak to mean anything (``test_adversary.py``).

    python -m tests.adversary --draws 1000 --record results/adversary/summary.json
"""
