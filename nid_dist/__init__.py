"""Neural Implicit Dictionaries: f_i(x) = beta_i + sum_j alpha_ij b_theta_j(x), with experts sharded over ranks."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nid_dist.export import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> object:
    # Importing the package stays cheap: PyTorch is loaded with the first use of `load`.
    if name == "load":
        from nid_dist.export import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
