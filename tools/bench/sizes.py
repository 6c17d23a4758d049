"""How large each measurement is: the full run, and one that ends in seconds for the test-suite."""

FULL = {
    "rounds": 7,
    "model": {"height": 480, "width": 640, "proposals": 1000, "objects": 8},
    "mapper": {"pictures": 48},
    "evaluation": {"images": 1000, "objects": 7, "detections": 20, "rounds": 5},
    "data": {"images": 100_000, "objects": 860_000, "pictures": 2000, "samples": 2000, "rounds": 5},
}
QUICK = {
    "rounds": 1,
    "model": {"height": 96, "width": 128, "proposals": 50, "objects": 2},
    "mapper": {"pictures": 2},
    "evaluation": {"images": 10, "objects": 7, "detections": 20, "rounds": 1},
    "data": {"images": 40, "objects": 200, "pictures": 10, "samples": 4, "rounds": 1},
}
