"""Neural Implicit Dictionaries: f_i(x) = beta_i + sum_j alpha_ij b_theta_j(x), with experts sharded over ranks."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nid_dist.code import Code, load_codes
    from nid_dist.coding.fit import Fit
    from nid_dist.coding.method import Method
    from nid_dist.config.schema import Config
    from nid_dist.data.reading import read_image
    from nid_dist.errors import DoubtfulMeaning, UserError
    from nid_dist.export import load
    from nid_dist.model import Model
    from nid_dist.tasks.ct.sinograms import read_scans
    from nid_dist.training.run import train

__version__ = "0.1.0"
__all__ = [
    "Code",
    "Config",
    "DoubtfulMeaning",
    "Fit",
    "Method",
    "Model",
    "UserError",
    "__version__",
    "load",
    "load_codes",
    "read_image",
    "read_scans",
    "train",
]

# Importing the package stays cheap: each name is loaded with its first use, PyTorch or the training with it.
_HOMES = {
    "Code": "code",
    "Config": "config.schema",
    "DoubtfulMeaning": "errors",
    "Fit": "coding.fit",
    "Method": "coding.method",
    "Model": "model",
    "UserError": "errors",
    "load": "export",
    "load_codes": "code",
    "read_image": "data.reading",
    "read_scans": "tasks.ct.sinograms",
    "train": "training.run",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"nid_dist.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
