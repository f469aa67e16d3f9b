"""How far a network is from the global optimum, proven from the network alone."""

from convexlib.certify.batchnorm import certify_batchnorm
from convexlib.certify.two_layer import Certificate, certify

__all__ = ["Certificate", "certify", "certify_batchnorm"]
