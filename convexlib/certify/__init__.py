"""How far a network is from the global optimum, proven from the network alone."""

from convexlib.certify.batchnorm import certify_batchnorm
from convexlib.certify.certificate import Certificate
from convexlib.certify.dispatch import certify
from convexlib.certify.missing import MissingNeuron, missing_neuron
from convexlib.certify.polish import Polished, Stage, polish

__all__ = [
    "Certificate",
    "MissingNeuron",
    "Polished",
    "Stage",
    "certify",
    "certify_batchnorm",
    "missing_neuron",
    "polish",
]
