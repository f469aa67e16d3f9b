"""What every problem can say about itself.

A problem is data plus a theorem, and does not change. It knows its convex program (value, penalty,
constraints), the dual of it, and how a solution becomes a network. It names the solvers that can
solve it, and knows no more of them.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from convexlib.arrangements import Arrangements
from convexlib.checks import check_beta, check_same_device
from convexlib.errors import InputError
from convexlib.losses import Loss, SmoothLoss
from convexlib.networks import outputs, squared_weights
from convexlib.result import Result

if TYPE_CHECKING:
    import cvxpy as cp

MAX_SAMPLES = 10_000  # beyond this the factor of admm's (n, n) matrix is out of proportion


@dataclass(frozen=True)
class CvxpyProgram:
    """A problem written for an interior-point solver, and how to read its weights and z.

    In the program the outputs are a variable of their own: the multiplier of `link`, which ties
    them to the weights, is z, up to a sign that varies with CVXPY's version and the program's form.
    """

    problem: cp.Problem
    read_weights: Callable[[], Tensor]
    link: cp.Constraint
    y: Tensor

    def read_z(self) -> Tensor:
        """The dual point of the solved program."""
        z = torch.as_tensor(self.link.dual_value).to(self.y)
        return z if float((z * self.y).sum()) >= 0 else -z


class Problem(ABC):
    r"""A convex program :math:`\min_{w \in K} L(f_w) + \beta\,\Omega(w)` that stands for a network.

    Subclasses set `X`, what the program is made of, whose first axis is that of the samples; the
    targets `y`; `beta` and `loss`. They document the shapes of X and y and that of ``weights``,
    which is one tensor, and what kind of network they stand for.

    Data that come as tensors are not copied: to change them later changes the program. `loss` is
    the object of the loss that was named.
    """

    X: Tensor
    y: Tensor
    beta: float
    loss: Loss
    arrangements: Arrangements | None = None  # the patterns of the program, where there are any
    _degree: ClassVar[int] = 1  # to which power of X's size the outputs grow at fixed weights

    _inputs: Tensor | None = None

    @property
    def inputs(self) -> Tensor:
        """The data as given, which the network takes: X, unless the program is made of another."""
        return self.X if self._inputs is None else self._inputs

    @property
    @abstractmethod
    def methods(self) -> tuple[str, ...]:
        """Names of the solvers that can solve it, that of ``method="auto"`` first."""

    @property
    def scope(self) -> str:
        """What a bound is about: ``"program"``, or ``"network"`` for all networks."""
        return "program"

    @property
    def separable(self) -> bool:
        """Whether the program is the sum of `each_output`, which are solved one by one."""
        return False

    def each_output(self) -> Sequence[Problem]:
        """The problem of each output on its own."""
        return [self]

    def with_beta(self, beta: float) -> Self:
        """The same problem with another regularisation; all else is shared."""
        return self._changed(beta=check_beta(beta))

    def double(self) -> Self:
        """The same problem in float64, with all that it holds; itself if that is what it is in."""
        if self.X.dtype is torch.float64:
            return self
        other = self._changed(*self._computed())
        vars(other).update({name: _doubled(held) for name, held in vars(other).items()})
        return other

    def _scaled(self, size: float, height: float) -> Self:
        """The program of X / size and y / height, for `to_cvxpy`, with the beta for these.

        For the squared loss, or with height 1. What solves it, times height / size**_degree, solves
        this one; the same holds of z with height.
        """
        held = {k: v._scaled(size, height) for k, v in vars(self).items() if isinstance(v, Problem)}
        beta = self.beta / (height * size**self._degree)
        data = {"X": self.X / size, "y": self.y / height}
        return self._changed(*self._computed(), beta=beta, **data, **held)

    def _computed(self) -> list[str]:
        """Names of what has been computed from other attributes, and kept."""
        kind = type(self)
        return [k for k in vars(self) if isinstance(getattr(kind, k, None), cached_property)]

    def _changed(self, *computed: str, **attributes: Any) -> Self:
        """The same problem with other attributes, without those `computed` from the old ones."""
        other = copy.copy(self)
        for name in computed:
            vars(other).pop(name, None)
        vars(other).update(attributes)
        return other

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of the weights."""

    def zeros(self) -> Tensor:
        """Weights that are all zero."""
        return self.X.new_zeros(self.shape)

    @abstractmethod
    def fitted(self, weights: Tensor) -> Tensor:
        """The program's outputs on the training data, in the shape of y."""

    @abstractmethod
    def penalty(self, weights: Tensor) -> float:
        """Omega(w), without beta."""

    def violation(self, weights: Tensor) -> float:
        """How far the weights are outside of their cones (0 inside); unit-length constraints."""
        return 0.0

    def project(self, weights: Tensor) -> Tensor:
        """The nearest weights in the cones; the weights themselves where there are none."""
        return weights

    @abstractmethod
    def dual_norm(self, z: Tensor) -> float:
        """The smallest beta for which z is feasible in the dual."""

    @abstractmethod
    def to_network(self, result: Result | Tensor) -> nn.Module:
        """The network whose training objective equals the program's value."""

    @abstractmethod
    def to_cvxpy(self) -> CvxpyProgram:
        """The program as text, for the oracle."""

    def _written(
        self,
        outputs: cp.Expression | float,
        penalty: cp.Expression | float,
        constraints: list[cp.Constraint],
        variables: list[cp.Variable],
    ) -> CvxpyProgram:
        """Minimise L(outputs) + beta penalty; the variables, one after another, are the weights."""
        import cvxpy as cp

        fitted = cp.Variable(tuple(self.y.shape))
        link = fitted == outputs
        goal = cp.Minimize(self.loss.expression(fitted, self.y) + self.beta * penalty)

        def read_weights() -> Tensor:
            values = [torch.as_tensor(variable.value).ravel() for variable in variables]
            return torch.cat(values).reshape(self.shape).to(self.y)

        return CvxpyProgram(cp.Problem(goal, [link, *constraints]), read_weights, link, self.y)

    def value(self, weights: Tensor) -> float:
        """Objective of the convex program."""
        return self.loss.value(self.fitted(weights), self.y) + self.beta * self.penalty(weights)

    def dual_value(self, z: Tensor) -> float:
        """Dual objective; a lower bound on the optimum when z is feasible."""
        return self.loss.dual_value(z, self.y)

    def dual_scaling(self, z: Tensor) -> Tensor:
        """The feasible multiple of z (put into the loss's domain) with the best dual value."""
        z = self.loss.restrict(z, self.y)
        free = self.loss.best_scale(z, self.y, math.inf)
        if free == 0.0:
            return 0.0 * z
        # The dual value is concave along the ray: it rises up to the free scale.
        floor = self.beta / free
        norm = self._dual_norm_above(z, floor)
        return (self.beta / norm if norm > floor else free) * z

    def _dual_norm_above(self, z: Tensor, floor: float) -> float:
        """Return `dual_norm`, or anything up to `floor` if it is not larger than that."""
        return self.dual_norm(z)

    def beta_max(self) -> float:
        """The smallest beta at which the zero network is optimal.

        Where patterns or units are generated, a proven upper bound on it: tight for patterns up to
        rank 5.
        """
        return self.dual_norm(self.loss.dual_point(torch.zeros_like(self.y), self.y))

    def objective(self, network: nn.Module) -> float:
        r"""Training objective of a network, :math:`L(f(X)) + \tfrac\beta2 \sum \text{weight}^2`.

        Computed in float64 from the network's own parameters.
        """
        check_same_device(network, self.X)
        # A copy in float64: the network itself is left as it is.
        exact = double(network)
        fit = self.loss.value(self._outputs(exact), self.y.double())
        return fit + self.beta * self._decay(exact)

    def _outputs(self, network: nn.Module) -> Tensor:
        """The outputs of a float64 network on the data, in the shape of y."""
        return outputs(network, self.inputs.double())

    def _decay(self, network: nn.Module) -> float:
        """What beta multiplies in the training objective of a float64 network."""
        return 0.5 * float(squared_weights(network))


ProximalMap = Callable[[Tensor, float], Tensor]


class LinearProgram(Problem):
    r"""A program whose outputs are linear in the weights, with a smooth loss.

    .. math:: \min_{w \in K} L(A w) + \beta\,\Omega(w) .

    `A` is `fitted`, its adjoint is `correlations`; where there are several outputs A acts on each
    in the same way. Gradient methods need no more than this and the proximal map.
    """

    loss: SmoothLoss
    gated: bool

    @property
    def methods(self) -> tuple[str, ...]:
        """See `Problem`: admm, gradient methods where there are no cones, and an interior point."""
        factored = ("admm",) if len(self.y) <= MAX_SAMPLES else ()
        gradient = () if self.constrained else ("fista", "proximal_gradient")
        return (*factored, *gradient, "oracle")

    @property
    def constrained(self) -> bool:
        """Whether there are cones K."""
        return not self.gated

    @abstractmethod
    def correlations(self, z: Tensor) -> Tensor:
        """The adjoint of `fitted`, in the shape of the weights."""

    @abstractmethod
    def gram(self) -> Tensor:
        r"""The matrix :math:`A A^\top` (n, n), for one output."""

    @abstractmethod
    def proximal_map(self) -> ProximalMap:
        r"""A new map :math:`(w, t) \mapsto \arg\min_{v \in K} \tfrac12\|v - w\|^2 + t\,\Omega(v)`.

        It may keep warm starts, so that a solver should ask for one and use it throughout.
        """

    def project(self, weights: Tensor) -> Tensor:
        """The nearest weights in the cones."""
        return self.proximal_map()(weights, 0.0)

    def lipschitz(self) -> float:
        r"""The largest eigenvalue of :math:`A A^\top` by power iteration, a little too large."""
        generator = torch.Generator().manual_seed(0)
        z = torch.randn(self.y.shape, generator=generator, dtype=torch.float64).to(self.y)
        largest = 0.0
        for _ in range(100):
            z = self.fitted(self.correlations(z / torch.linalg.vector_norm(z)))
            previous, largest = largest, float(torch.linalg.vector_norm(z))
            if abs(largest - previous) <= 1e-4 * largest:
                break
        return 1.02 * largest


def _doubled(held: Any) -> Any:
    """Something that a problem holds, in float64 where it is in float32."""
    if isinstance(held, Tensor) and held.is_floating_point():
        return held.double()
    if isinstance(held, Problem):
        return held.double()
    if isinstance(held, Arrangements):
        return replace(held, gates=held.gates.double())
    return held


def double(network: nn.Module) -> nn.Module:
    """A float64 copy of a network."""
    return copy.deepcopy(network).double()


def singular_triples(blocks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Blocks (P, a, b) as sums of :math:`p q^\top`, :math:`\|p\| = \|q\|`, by singular values.

    Returned are the places (m,) of their blocks, p (m, a) and q (m, b).
    """
    left, sizes, right = torch.linalg.svd(blocks, full_matrices=False)
    least = torch.finfo(sizes.dtype).eps * max(blocks.shape[1:]) * sizes[:, :1]
    block, place = (least < sizes).nonzero(as_tuple=True)
    roots = sizes[block, place].sqrt()[:, None]
    return block, roots * left[block, :, place], roots * right[block, place]


def weights_of(result: Result | Tensor, shape: tuple[int | str, ...] | None = None) -> Tensor:
    """The weights in a result, or the weights themselves, of the expected shape.

    A letter in the shape stands for any size.
    """
    weights: Any = result.weights if isinstance(result, Result) else result
    if not isinstance(weights, Tensor):
        raise InputError(
            f"got {type(result).__name__}; expected the Result of solve(problem), or its weights."
        )
    if shape is not None and (
        weights.ndim != len(shape)
        or any(a != b for a, b in zip(weights.shape, shape, strict=True) if isinstance(b, int))
    ):
        raise InputError(
            f"the weights have shape {tuple(weights.shape)}; expected "
            f"({', '.join(map(str, shape))}). Do they belong to another problem?"
        )
    return weights
