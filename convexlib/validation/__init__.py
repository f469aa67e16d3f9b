"""What may enter the library, and how everything else is refused.

Nothing is imputed, moved to another device or lowered in precision: numpy input becomes float64
CPU tensors, torch input keeps its dtype and device, and whatever does not fit is refused with a
message that says what was got, what was expected and what to do.
"""

from convexlib.validation.arguments import (
    check_beta,
    check_betas,
    check_choice,
    check_flag,
    check_index,
    check_positive_int,
    check_real,
    check_seed,
    check_sequence,
    check_tol,
    readable_count,
)
from convexlib.validation.tensors import (
    FLOATS,
    as_tensor,
    check_data,
    check_finite,
    check_matrix,
    check_numbers,
    check_outputs,
    check_same_kind,
    check_scale,
    check_vector,
    check_weights,
)

__all__ = [
    "FLOATS",
    "as_tensor",
    "check_beta",
    "check_betas",
    "check_choice",
    "check_data",
    "check_finite",
    "check_flag",
    "check_index",
    "check_matrix",
    "check_numbers",
    "check_outputs",
    "check_positive_int",
    "check_real",
    "check_same_kind",
    "check_scale",
    "check_seed",
    "check_sequence",
    "check_tol",
    "check_vector",
    "check_weights",
    "readable_count",
]
