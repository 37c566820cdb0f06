"""How near the samplers and schedules are to others' of the same name: python -m flowdesign fidelity.

Samplers are compared with references in double precision that were made from k-diffusion and from
formulas (`stored`), and with diffusers' schedulers (`witnesses`), on a model whose answer is known (`toy`).
"""

from flowdesign.parity.measuring import TOLERANCE, Parity, Row, measure, tolerance
from flowdesign.parity.table import as_markdown

__all__ = ["TOLERANCE", "Parity", "Row", "as_markdown", "measure", "tolerance"]
