"""Attacks on the chapter that teaches geometric algebra."""

from functools import reduce
from itertools import combinations, product

import numpy as np
from scipy.optimize import linprog

import convexlib as cl
from tests.adversary.geometry import exact_determinant
from tests.adversary.search import Draw, Floats, attack, refute


def units(d: int) -> list[Floats]:
    """Matrices that square to one and anticommute: the algebra by another road than sorting."""
    X, Z, one = np.array([[0.0, 1.0], [1.0, 0.0]]), np.diag([1.0, -1.0]), np.eye(2)
    return [reduce(np.kron, [Z] * k + [X] + [one] * (d - 1 - k), np.eye(1)) for k in range(d)]


def blades(d: int) -> dict[tuple[int, ...], Floats]:
    """The matrix of every basis blade, by its indices."""
    e = units(d)
    sets = [S for k in range(d + 1) for S in combinations(range(d), k)]
    return {S: reduce(np.matmul, [e[i] for i in S], np.eye(2**d)) for S in sets}


def vector(x: Floats) -> Floats:
    """The matrix of a vector."""
    made: Floats = np.tensordot(x, np.array(units(len(x))), 1)
    return made


def coefficients(M: Floats, d: int) -> dict[tuple[int, ...], float]:
    """What a matrix of the algebra is made of; different blades are orthogonal."""
    return {S: float(np.sum(E * M) / 2**d) for S, E in blades(d).items()}


def part(M: Floats, d: int, grade: int) -> Floats:
    """The part of a grade, as a matrix."""
    E = blades(d)
    kept = [c * E[S] for S, c in coefficients(M, d).items() if len(S) == grade]
    return sum(kept, np.zeros_like(M))


def normals(draw: Draw, count: int, d: int) -> list[Floats]:
    """Unit vectors, some of them equal, opposite, orthogonal or nearly so."""
    made = [draw.normal(d) for _ in range(count)]
    kind = draw.choice("Gaussian", "Gaussian", "equal", "opposite", "axes", "near")
    if kind in ("equal", "opposite"):
        made[-1] = made[0] if kind == "equal" else -made[0]
    elif kind == "axes":
        made = [np.eye(d)[draw.size(0, d - 1)] for _ in made]
    elif kind == "near":
        made[-1] = made[0] + 1e-7 * made[-1]
    draw.note(f"{kind} normals, d = {d}")
    return [n / np.linalg.norm(n) for n in made]


@attack("algebra-product")
def one_product(draw: Draw) -> None:
    """The sign by counting pairs is that of matrices, which are associative; wedges are minors."""
    d = draw.size(1, 4)
    E, sets = blades(d), list(blades(d))
    S, T = sets[draw.size(0, 2**d - 1)], sets[draw.size(0, 2**d - 1)]
    sign = (-1.0) ** sum(s > t for s, t in product(S, T))
    draw.true(bool((E[S] @ E[T] == sign * E[tuple(sorted(set(S) ^ set(T)))]).all()))
    k = draw.size(1, d)
    U = draw.rng.integers(-3, 4, (k, d))
    if k > 1 and draw.rng.random() < 0.3:
        U[0] = draw.choice(0, 1, -2) * U[-1]  # dependent rows
    wedge = part(reduce(np.matmul, map(vector, U.astype(float))), d, k)
    found = coefficients(wedge, d)
    for chosen in combinations(range(d), k):
        draw.true(found[chosen] == exact_determinant(U[:, chosen].tolist()))
    gram = exact_determinant((U @ U.T).tolist())
    draw.true(sum(c * c for c in found.values()) == gram)
    draw.true((gram == 0) == (np.linalg.matrix_rank(U) < k))
    x, u, v = (draw.normal(d) * draw.scale() for _ in range(3))
    size = np.prod([np.linalg.norm(w) for w in (x, u, v)]) or 1.0
    uv = vector(u) @ vector(v)
    vu = vector(v) @ vector(u)
    draw.same((uv + vu) / 2, (u @ v) * np.eye(2**d), 1e-12 * np.linalg.norm(u) * np.linalg.norm(v))
    draw.same((uv - vu) / 2, part(uv, d, 2), 1e-12 * np.linalg.norm(u) * np.linalg.norm(v))
    contracted = part(vector(x) @ part(uv, d, 2), d, 1)
    draw.same(contracted, vector((x @ u) * v - (x @ v) * u), 1e-12 * size)


@refute("algebra-product", "every element of grade 2 is a wedge product of two vectors")
def sums_of_planes(draw: Draw) -> None:
    """The square of a wedge of two vectors is a number, that of a sum of two wedges need not be."""
    d = draw.size(2, 4)
    u, v, p, q = draw.normal(4, d)
    B = part(vector(u) @ vector(v) + vector(p) @ vector(q), d, 2)
    draw.same(B @ B, (B @ B)[0, 0] * np.eye(2**d), 1e-9)


@attack("algebra-dual")
def dual(draw: Draw) -> None:
    """The wedge times the inverse volume is the library's normal; wedges with it are volumes."""
    d = draw.size(2, 4)
    U, x = draw.rng.integers(-3, 4, (d - 1, d)), draw.rng.integers(-3, 4, d)
    if d > 2 and draw.rng.random() < 0.3:
        U[0] = draw.choice(0, 1, -2) * U[-1]
    rows = [vector(row) for row in U.astype(float)]
    W = part(reduce(np.matmul, rows), d, d - 1)
    whole = reduce(np.matmul, units(d))
    inverse = reduce(np.matmul, units(d)[::-1])
    draw.true(bool((whole @ inverse == np.eye(2**d)).all()))
    size = float(np.prod(np.linalg.norm(U, axis=1))) or 1.0
    draw.same(W @ inverse, vector(cl.cross_product(U.astype(float)).numpy()), 1e-12 * size)
    volume = part(reduce(np.matmul, [vector(x.astype(float)), *rows]), d, d)
    determinant = exact_determinant([x.tolist(), *U.tolist()])
    draw.same(volume, determinant * whole, 1e-12 * size)
    wedged = part(vector(x.astype(float)) @ W, d, d)
    draw.same(wedged, volume, 1e-12 * size * (np.linalg.norm(x) or 1.0))


@attack("algebra-distance")
def distance(draw: Draw) -> None:
    """Volume over base against a projection and against a linear program."""
    d = draw.size(1, 4)
    points, x = draw.matrix(d, d), draw.normal(d)
    size = draw.scale(3.0)
    edges = points[1:] - points[0]
    volume = np.linalg.det(np.vstack([x - points[0], edges]))
    base = np.sqrt(max(np.linalg.det(edges @ edges.T), 0.0))
    draw.assume(d == 1 or np.linalg.cond(edges) < 1e4)
    c = cl.cross_product(edges * size).numpy() / size ** (d - 1)
    foot = np.linalg.lstsq(edges.T, x - points[0], rcond=None)[0] if d > 1 else np.zeros(0)
    draw.same(abs(volume) / base, np.linalg.norm(x - points[0] - edges.T @ foot), 1e-8)
    # min t over a in R^(d-1): |x - p_0 - edges^T a| <= t in every coordinate.
    ones = np.ones((d, 1))
    rows = np.vstack([np.hstack([-edges.T, -ones]), np.hstack([edges.T, -ones])])
    limits = np.concatenate([points[0] - x, x - points[0]])
    program = linprog(np.append(np.zeros(d - 1), 1.0), rows, limits, bounds=(None, None))
    draw.same(abs(volume) / np.abs(c).sum(), program.fun, 1e-6)


@attack("algebra-rotor")
def rotor(draw: Draw) -> None:
    """Sandwiches are Householder matrices and rotations by twice the angle; lengths stay."""
    d = draw.size(2, 4)
    m, n = normals(draw, 2, d)
    x = draw.normal(d) * draw.scale()
    length = float(np.linalg.norm(x)) or 1.0
    once = -vector(n) @ vector(x) @ vector(n)
    draw.same(once, vector(x - 2 * (n @ x) * n), 1e-12 * length)
    R, reverse = vector(n) @ vector(m), vector(m) @ vector(n)
    turned = R @ vector(x) @ reverse
    angle = np.arctan2(np.linalg.norm(n - (m @ n) * m), m @ n)
    side = n - (m @ n) * m
    # Parallel mirrors span no plane, and nothing turns.
    f = side / np.linalg.norm(side) if np.linalg.norm(side) > 1e-12 else np.zeros(d)
    inside = (m @ x) * m + (f @ x) * f
    quarter = (m @ x) * f - (f @ x) * m
    expected = x - inside + np.cos(2 * angle) * inside + np.sin(2 * angle) * quarter
    draw.same(turned, vector(expected), 1e-8 * length)
    many = normals(draw, draw.size(1, 4), d)
    left, right = (reduce(np.matmul, map(vector, order)) for order in (many, many[::-1]))
    moved = left @ vector(x) @ right
    draw.same(part(moved, d, 1), moved, 1e-12 * length)
    draw.same(moved @ moved, (x @ x) * np.eye(2**d), 1e-11 * length**2)


@refute("algebra-rotor", "two reflections may be done in any order")
def in_any_order(draw: Draw) -> None:
    """Only parallel and orthogonal mirrors commute."""
    m, n = normals(draw, 2, 3)
    x = draw.normal(3)
    one, other = (
        vector(b) @ vector(a) @ vector(x) @ vector(a) @ vector(b) for a, b in ((m, n), (n, m))
    )
    draw.same(one, other, 1e-9)
