r"""Semismooth-Newton augmented Lagrangian on the dual, for gated and ReLU problems.

The dual :math:`\min_z L^*(-z)` subject to :math:`\|\mathrm{Proj}_{K_b}(A_b^\top z)\| \le \beta`
has the blocks u of the primal as multipliers. For a penalty :math:`\sigma` its augmented Lagrangian

.. math:: \psi(z) = L^*(-z) + \tfrac1{2\sigma} \sum_b
          \left\|\mathrm{prox}_{\sigma\beta}(u_b + \sigma A_b^\top z)\right\|^2

is once differentiable and strongly convex, and its minimiser gives the next multipliers
:math:`u_b \leftarrow \mathrm{prox}_{\sigma\beta}(u_b + \sigma A_b^\top z)`, which lie in their
cones exactly. The gradient is piecewise smooth, so Newton's method with a generalised Jacobian
converges in a few steps. With P the projection onto the face of the cone that holds the projected
block, :math:`w` its direction and :math:`c = \sigma\beta/\|\mathrm{Proj}\|`, that Jacobian is

.. math:: \mathrm{diag}(h) + \sigma K, \qquad K = \sum_{b \in \mathrm{active}}
          A_b \left((1-c) P_b + c\, w_b w_b^\top\right) A_b^\top,

h the curvature of the conjugate loss.
Source: Li, Sun & Toh (2018) for the Lasso; the cones and their faces are this library's.

Files: `outer` the multipliers and the certificate, `newton` the minimisation of psi and the Newton
equation, `blocks` the proximal maps and the matrix K.
"""

from convexlib.solvers.ssnal.outer import ssnal

__all__ = ["ssnal"]
