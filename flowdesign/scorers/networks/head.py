"""The small network at the end of two scorers: LAION's aesthetic predictor and ImageReward.

Five linear layers and nothing between them but dropout, which does nothing here. The names are
those of the published files: layers.0, 2, 4, 6 and 7.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from flowdesign.scorers.networks.loading import fill

WIDTHS = (1024, 128, 64, 16, 1)
DROPOUT = (0.2, 0.2, 0.1)  # after each of the first three layers; they keep the published numbering


class Head(nn.Module):
    """An embedding of `width` features to one figure."""

    def __init__(self, width: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for index, (before, after) in enumerate(zip((width, *WIDTHS), WIDTHS, strict=False)):
            parts.append(nn.Linear(before, after))
            if index < len(DROPOUT):
                parts.append(nn.Dropout(DROPOUT[index]))
        self.layers = nn.Sequential(*parts)

    def forward(self, embedding: Tensor) -> Tensor:
        """Map (batch, width) to (batch,)."""
        figure: Tensor = self.layers(embedding)
        return figure.squeeze(-1)


def build_head(weights: Mapping[str, Tensor]) -> Head:
    """Make the aesthetic head that these weights belong to. Raises ScorerError."""
    return fill(lambda: Head(weights["layers.0.weight"].shape[1]), weights, "the aesthetic head")
