"""How each method makes a surface of a cloud in a comparison: a field, negative inside, that is meshed afterwards."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from nid_dist.baselines.inr import Baseline
from nid_dist.code import Code
from nid_dist.errors import UserError
from nid_dist.model import Model
from nid_dist.tasks.comparison import Reconstruction
from nid_dist.tasks.shapes.auto_decoder import AutoDecoder
from nid_dist.tasks.shapes.mesh import Mesh
from nid_dist.tasks.shapes.mesh_distance import winding
from nid_dist.tasks.shapes.meshing import Field, extract_surface
from nid_dist.tasks.shapes.networks import fit_oriented_points
from nid_dist.tasks.shapes.point_clouds import Cloud
from nid_dist.tasks.shapes.surfaces import FitOptions, evaluate_code, fit_cloud, init_code, measure_cloud, mesh_code

_OFFSET = 0.02  # of the RBF's points on either side of the surface

Fit = Callable[[Cloud, float | None], Reconstruction]


@dataclass(frozen=True)
class Surface:
    """What a method made of a cloud."""

    field: Field
    mesh: Mesh | None  # None where the field has no zero level


def _found(field: Field, numbers: int, slope: float, resolution: int, **costs: float) -> Reconstruction:
    """`slope`: of the field near the surface."""
    return Reconstruction(
        lambda: Surface(field, extract_surface(field, resolution, slope)), {"numbers": numbers, **costs}
    )


def by_dictionary(model: Model, resolution: int) -> Fit:
    """The dictionary's robust fit."""
    return _by_code(model, lambda cloud: fit_cloud(model, cloud).code, resolution)


def by_gate(model: Model, resolution: int) -> Fit:
    """The gate's own code."""
    return _by_code(model, lambda cloud: init_code(model, cloud), resolution)


def _by_code(model: Model, solve: Callable[[Cloud], Code], resolution: int) -> Fit:
    def fit(cloud: Cloud, _: float | None) -> Reconstruction:
        code = solve(cloud)
        numbers = 2 * int((code.values != 0).sum()) + 1 + (0 if code.detail is None else code.detail.numbers)

        def field(points: np.ndarray) -> np.ndarray:
            return evaluate_code(model, code, points)

        return Reconstruction(lambda: Surface(field, mesh_code(model, code, resolution, cloud)), {"numbers": numbers})

    return fit


def by_network(baseline: Baseline, resolution: int) -> Fit:
    """A network per shape."""

    def fit(cloud: Cloud, _: float | None) -> Reconstruction:
        normals = None if cloud.normals is None else torch.from_numpy(cloud.normals).float()
        fitted = fit_oriented_points(baseline, torch.from_numpy(cloud.points).float(), normals)

        def field(at: np.ndarray) -> np.ndarray:
            values: np.ndarray = fitted.render(torch.from_numpy(np.ascontiguousarray(at)).float())[:, 0].numpy()
            return values

        return _found(field, fitted.network.parameters_count, 1.0, resolution, seconds=fitted.seconds)

    return fit


def by_auto_decoder(model: AutoDecoder, truncation: float, resolution: int) -> Fit:
    """A latent vector per shape, fitted to what the dictionary is fitted to."""

    def fit(cloud: Cloud, _: float | None) -> Reconstruction:
        measured = measure_cloud(cloud, truncation, FitOptions())
        parts = (measured.coords, measured.values, measured.weights)
        latent = model.fit(*(torch.from_numpy(part).float() for part in parts))

        def field(at: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                found = model(latent, torch.from_numpy(np.ascontiguousarray(at)).float()[None].to(latent.device))
            values: np.ndarray = found[0, :, 0].cpu().numpy()
            return values

        return _found(field, latent.numel(), 1 / truncation, resolution)

    return fit


def by_rbf(resolution: int) -> Fit:
    """Biharmonic splines through the points (0) and their offsets along the normals (Carr et al. 2001)."""
    from scipy.interpolate import RBFInterpolator

    def fit(cloud: Cloud, _: float | None) -> Reconstruction:
        assert cloud.normals is not None
        sides = [cloud.points + side * _OFFSET * cloud.normals for side in (0, 1, -1)]
        values = np.repeat([0.0, _OFFSET, -_OFFSET], len(cloud.points))
        spline = RBFInterpolator(np.concatenate(sides), values, kernel="linear", degree=0, smoothing=1e-3)
        return _found(lambda at: spline(at), 4 * 3 * len(cloud.points), 1.0, resolution)

    return fit


def has_poisson() -> bool:
    """Whether PyMeshLab is there, which has screened Poisson reconstruction (the extra `compare`)."""
    return importlib.util.find_spec("pymeshlab") is not None


def by_poisson(cloud: Cloud, depth: float | None) -> Reconstruction:
    """Screened Poisson reconstruction (Kazhdan and Hoppe 2013), by PyMeshLab.

    Args:
        depth: of the octree; its cells are half as wide with every level. None: 6.

    Raises:
        UserError: for a cloud without normals.
    """
    import pymeshlab

    if cloud.normals is None:
        raise UserError("screened Poisson", found="a cloud without normals", expected="normals", hint="do without it")
    meshes = pymeshlab.MeshSet()
    meshes.add_mesh(pymeshlab.Mesh(vertex_matrix=cloud.points, v_normals_matrix=cloud.normals))
    meshes.generate_surface_reconstruction_screened_poisson(depth=int(depth or 6), threads=torch.get_num_threads())
    made = meshes.current_mesh()
    mesh = Mesh(made.vertex_matrix(), made.face_matrix().astype(np.int64)) if made.face_number() else None
    # Its faces are where its field is zero: inside is what they go around.
    numbers = 0 if mesh is None else 3 * len(mesh.vertices)

    def field(at: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.ones(len(at)) if mesh is None else 0.5 - winding(mesh, at)
        return found

    return Reconstruction(lambda: Surface(field, mesh), {"numbers": numbers, "depth": depth})
