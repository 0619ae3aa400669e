"""What computes long here is compiled with LLVM's optimisations, which the other tests do without.

CPU seconds with and without: 16 images of Inception 2.5 and 4.5, 60 images searched for in a scan 0.6 and 2.8; compiling takes one more.
"""

import jax

from metrics import inception, matching

OPTIMISED = {"xla_backend_optimization_level": 3}

inception.FASTER_ON_CPU.update(OPTIMISED)
for name in ("_harmonics", "_best_turn", "_which_turn", "_fit"):
    setattr(matching, name, jax.jit(getattr(matching, name).__wrapped__, compiler_options=OPTIMISED))
