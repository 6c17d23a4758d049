"""Compare two results of a golden case: boxes to 1e-3 px, scores to 1e-5, losses to 1e-5 relative."""

import numpy as np

# Bits of a pasted mask may differ where its probability is within rounding of the threshold.
FLIPPED_BITS = 1e-4
# (part of the value's name, relative tolerance, absolute tolerance); the first that fits holds.
TOLERANCES = (
    ("gradient_norm", 1e-4, 0.0),
    ("loss", 1e-5, 1e-9),
    ("keypoint_scores", 5e-5, 5e-3),  # heights of heatmaps, some tens to hundreds
    ("scores", 0.0, 1e-5),
    ("objectness", 1e-5, 1e-5),
    ("boxes", 1e-6, 1e-3),
    ("keypoints", 1e-6, 1e-3),
    ("decoded", 1e-6, 1e-3),
    ("image", 0.0, 1.0),
)
DEFAULT = (1e-6, 1e-6)


def differences(case: str, found: dict, wanted: dict) -> list[str]:
    """One line for each value that differs by more than its tolerance; empty when all agree."""
    if list(found) != list(wanted):
        return [f"{case}: values {sorted(set(found) ^ set(wanted))} are only on one side"]
    lines = []
    for name in wanted:
        problem = _difference(f"{case}/{name}", found[name], wanted[name])
        if problem:
            lines.append(f"{case}/{name}: {problem}")
    return lines


def _difference(name: str, found, wanted) -> str | None:
    if isinstance(wanted, list | str):
        return None if found == wanted else _first_unequal(found, wanted)
    found, wanted = np.asarray(found), np.asarray(wanted)
    if found.shape != wanted.shape:
        return f"shape {found.shape} instead of {wanted.shape}"
    if wanted.dtype == np.uint8:
        flipped = np.unpackbits(np.bitwise_xor(found, wanted)).sum()
        return f"{flipped} of {8 * wanted.size} bits differ" if flipped > FLIPPED_BITS * 8 * wanted.size else None
    if wanted.dtype.kind in "iub":
        return None if np.array_equal(found, wanted) else f"{(found != wanted).sum()} of {wanted.size} integers differ"
    relative, absolute = next(((r, a) for part, r, a in TOLERANCES if part in name), DEFAULT)
    if np.allclose(found, wanted, rtol=relative, atol=absolute, equal_nan=True):
        return None
    largest = np.nanmax(np.abs(found - wanted))
    return f"differs by {largest:.3g} at most (tolerance {relative:g} relative, {absolute:g} absolute)"


def _first_unequal(found, wanted) -> str:
    if isinstance(wanted, str) or len(found) != len(wanted):
        return f"{str(found)[:80]} instead of {str(wanted)[:80]}"
    return next(f"{f} instead of {w} at position {i}" for i, (f, w) in enumerate(zip(found, wanted)) if f != w)
