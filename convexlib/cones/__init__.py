r"""Projection onto the cones of activation patterns.

The cell of pattern i is the cone :math:`K = \{u : s_j x_j^\top u \ge 0,\ j = 1..n\}` with
:math:`s = 2\,\mathrm{mask} - 1`. A cone has one face for each hyperplane that bounds it, usually
a handful out of n, so a dual active-set method (Goldfarb & Idnani, 1983) that adds the most
violated constraint and drops those whose multiplier would turn negative ends after few steps, and
after almost none when it starts from the active set and the factors of a nearby point.

The multipliers are kept: for **every** :math:`\lambda \ge 0`

.. math:: \max\{c^\top u : u \in K, \|u\| \le 1\} \le \|c + N^\top \lambda\|,\qquad
          N = \mathrm{diag}(s) X,

with equality at the projection (Moreau), so a bound computed from them holds whatever the solver
did. That is what a certificate uses.
"""

from convexlib.cones.kernels import project_one
from convexlib.cones.projector import ConeProjector

__all__ = ["ConeProjector", "project_one"]
