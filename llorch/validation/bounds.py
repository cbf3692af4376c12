"""How close values must be to the reference's, and what the rounding of float32 allows."""

from __future__ import annotations

from llorch.validation.records import Record


class Bounds(Record):
    """How far our values may be from the reference's.

    The largest difference must stay within ``absolute + relative * peak``, where peak is the largest
    magnitude in the reference tensor, and ``sum((ours - theirs)^2) / sum(theirs^2)`` within `nmse`.

    Attributes:
        absolute: bound on the largest difference; None for none.
        relative: share of the peak added to it.
        nmse: bound on the normalised mean squared error; None for none.
    """

    absolute: float | None
    relative: float
    nmse: float | None

    def __str__(self) -> str:
        if self.absolute == 0.0 and self.relative == 0.0:
            return "exact"
        parts = []
        if self.absolute is not None:
            parts.append(f"{self.absolute:g}" + (f" + {self.relative:g} peak" if self.relative else ""))
        if self.nmse is not None:
            parts.append(f"NMSE {self.nmse:g}")
        return ", ".join(parts)


class Tolerance(Bounds):
    """Bounds, and the reason for these numbers."""

    reason: str

    def __init__(
        self, absolute: float | None, reason: str, *, relative: float = 0.0, nmse: float | None = None
    ) -> None:
        super().__init__(absolute=absolute, relative=relative, nmse=nmse, reason=reason)  # type: ignore[call-arg]

    @property
    def bounds(self) -> Bounds:
        """The numbers alone."""
        return Bounds(absolute=self.absolute, relative=self.relative, nmse=self.nmse)


_ULPS = 2.4e-7


def rounded(absolute: float, reason: str) -> Tolerance:
    """`absolute`, and what rounding adds to one large value."""
    ulps = f"{_ULPS:g} of the peak is two units in the last place of a float32 of that size"
    return Tolerance(absolute, f"{reason}; {ulps}", relative=_ULPS)


_SUM = 1.9e-6


def summed(reason: str) -> Tolerance:
    """1e-4, and what rounding adds to a long sum of two or three products that are hundreds of times the others.

    Source: Higham and Mary 2019, *A new approach to probabilistic rounding error analysis*, (2.6) without its constant.
    Of 155,520 sums of 1,536 products (SmolLM2's feed-forward networks in float32, against float64) the furthest is off
    by 0.91 of that; it is 535.0, of the products 350 and 182 and 1,534 small ones, and 10 units of roundoff off.
    """
    why = (
        "k float32 additions in a row are off by sqrt(k) units of roundoff of what is added; "
        f"{_SUM:g} of the peak is 32 of them, for 16,320 products in 16 lanes: rows of trained models have a "
        "few activations that are hundreds of times as large as the others"
    )
    return Tolerance(1e-4, f"{reason}; {why}", relative=_SUM)
