"""Real slices that come with packages: scikit-image's photographs, and the samples of pydicom where it is installed."""

import importlib.util
from functools import partial
from pathlib import Path

from nid_dist.data.reading import read_image
from nid_dist.errors import UserError
from nid_dist.tasks.images.config import PhotosSection
from nid_dist.tasks.images.sources import EMBEDDED, ImageRef, list_images


def named_slice(name: str) -> ImageRef:
    """A picture by its name: a photograph of scikit-image, or a file among pydicom's samples, such as CT_small.dcm.

    Raises:
        UserError: when there is none of that name.
    """
    if name in EMBEDDED:
        return next(ref for ref in list_images(PhotosSection(colour="grey"))["train"] if ref.name == name)
    spec = importlib.util.find_spec("pydicom")
    path = None if spec is None or spec.origin is None else Path(spec.origin).parent / "data" / "test_files" / name
    if path is None or path.suffix != ".dcm" or not path.is_file():
        raise UserError(
            f"slices: {name}",
            found="no slice of that name" + ("" if spec else " (pydicom is not installed)"),
            expected=f"one of {', '.join(EMBEDDED)}, or a sample of pydicom such as CT_small.dcm",
            hint="pip install 'nid_dist[dicom]'" if spec is None and name.endswith(".dcm") else "correct it",
        )
    return ImageRef(name, partial(read_image, path, "grey"))
