"""rcnnkit's built-in engine: Detectron2's public API for the R-CNN family, on torch, torchvision and fvcore."""

import detectron2.utils.out_of_scope  # noqa: F401  makes the modules that have no file here
from detectron2.utils.env import setup_environment

__version__ = "0.6"

# Library switches and the user's own set-up module come before anything else imports.
setup_environment()
