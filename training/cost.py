"""What a network costs: its parameters and the multiply-adds of one pass."""

import math

import jax
from jax.extend import core


def num_params(params) -> int:
    """Returns how many numbers a tree of arrays or of their shapes holds."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def gflop(function, *arguments) -> float:
    """Returns the 10^9 floating-point operations of function(*arguments): two for each multiply-add of convolutions and matrix products.

    Counted on shapes, nothing is computed; padding counts as image, and what works number by number (norms, activations) is left out,
    as in the literature's figures. Of branches of which one is taken (`lax.cond`, `switch`, `platform_dependent`) the most expensive
    counts, the body of a `lax.scan` as often as it runs, that of a `while` once: shapes do not tell how often it runs. Arguments may be
    arrays or jax.ShapeDtypeStruct.
    """
    return 2e-9 * _multiply_adds(jax.make_jaxpr(function)(*arguments).jaxpr)


def _multiply_adds(jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        inside = [_multiply_adds(inner) for inner in _inside(equation.params)]
        name = equation.primitive.name
        if name == "conv_general_dilated":
            kernel, layout = equation.invars[1].aval.shape, equation.params["dimension_numbers"]
            total += equation.outvars[0].aval.size * (math.prod(kernel) // kernel[layout.rhs_spec[0]])
        elif name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
        elif name == "cond":
            total += max(inside)
        else:
            total += sum(inside) * (equation.params["length"] if name == "scan" else 1)
    return total


def _inside(params):
    for value in jax.tree.leaves(list(params.values()), is_leaf=lambda value: isinstance(value, core.Jaxpr | core.ClosedJaxpr)):
        if isinstance(value, core.Jaxpr | core.ClosedJaxpr):
            yield getattr(value, "jaxpr", value)
