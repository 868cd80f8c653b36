"""Inpainting: exact where the dictionary can say what is hidden, robust where it must find it, and clear refusals."""


import numpy as np

from tests.tiny import picture

IMAGE = (picture(4) / 255).astype(np.float32)
