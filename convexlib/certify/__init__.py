"""How far a network is from the global optimum, proven from the network alone."""

from convexlib.certify.batchnorm import certify_batchnorm
from convexlib.certify.certificate import Certificate
from convexlib.certify.door import certify

__all__ = ["Certificate", "certify", "certify_batchnorm"]
