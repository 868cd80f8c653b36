"""All readers."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from nid_dist.benchmarks.bad_inputs import bodies, clouds, codes, dicom, films, masks, pictures, scans, settings, sounds
from nid_dist.benchmarks.bad_inputs.reader import Reader


def all_readers(dictionaries: Path) -> Iterator[Reader]:
    """Of each kind of input; DICOM's is an optional extra."""
    yield settings.configuration()
    yield settings.splits()
    yield from pictures.readers(dictionaries / "images")
    yield pictures.folders(dictionaries / "images")
    if find_spec("pydicom") is not None:
        yield dicom.reader(dictionaries / "images")
    yield masks.reader(dictionaries / "images")
    yield from sounds.readers(dictionaries / "audio")
    yield from bodies.readers()
    yield from clouds.readers()
    yield clouds.surfaces(dictionaries / "shapes")
    yield from scans.readers(dictionaries / "ct")
    yield from films.readers()
    yield from codes.readers(dictionaries)
