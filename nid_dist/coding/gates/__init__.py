"""alpha_i, beta_i predicted from the signal: gates."""

import torch
from torch import nn

from nid_dist.coding.gates.base import GateOutput
from nid_dist.coding.gates.codebook import CodebookGate
from nid_dist.coding.gates.conv import ConvGate
from nid_dist.coding.gates.light import LightGate
from nid_dist.coding.gates.pointnet import PointNetGate
from nid_dist.coding.gates.resnet import ResNetGate
from nid_dist.config.schema import Gate as GateConfig
from nid_dist.errors import UserError

__all__ = ["GateOutput", "make_gate"]


def make_gate(
    config: GateConfig,
    *,
    experts: int,
    channels: int,
    grid_shape: tuple[int, ...],
    signals: int,
    support: int,
    generator: torch.Generator,
) -> nn.Module:
    """Make the gate that a configuration asks for.

    A codebook takes any grid, a pointnet reads none; `signals` matters to codebook and temporal gate only, `support`
    (k) to the unrolled and the pursuit gate only.

    Raises:
        UserError: for the kind `none`.
        ValueError: for a grid_shape that the gate cannot read (the configuration has been checked for that).
    """
    if config.kind == "codebook":
        return CodebookGate(experts=experts, channels=channels, signals=signals, generator=generator, rank=config.rank)
    if config.kind == "temporal":
        from nid_dist.coding.gates.temporal import TemporalGate

        return TemporalGate(
            experts=experts,
            channels=channels,
            signals=signals,
            width=config.width,
            harmonics=config.harmonics,
            generator=generator,
            rank=config.rank,
        )
    if config.kind == "pointnet":
        return PointNetGate(
            experts=experts, channels=channels, width=config.width, generator=generator, rank=config.rank
        )
    if len(grid_shape) > 2:
        raise ValueError(f"the {config.kind} gate reads rows and columns, not a grid of shape {grid_shape}")
    *rows, width = grid_shape
    height = rows[0] if rows else 1  # a signal along one axis is one row
    match config.kind:
        case "light":
            made: type[LightGate | ConvGate | ResNetGate] = LightGate
        case "conv":
            made = ConvGate
        case "resnet":
            made = ResNetGate
        case "unrolled" | "pursuit":
            from nid_dist.coding.gates.pursuit import PursuitGate
            from nid_dist.coding.gates.unrolled import UnrolledGate

            of_atoms: type[UnrolledGate | PursuitGate] = UnrolledGate if config.kind == "unrolled" else PursuitGate
            return of_atoms(
                config,
                experts=experts,
                channels=channels,
                grid_shape=(height, width),
                support=support,
                generator=generator,
            )
        case _:
            raise UserError(
                "coding.gate.kind",
                found=f"{config.kind!r}",
                expected="a gate, as something here needs predicted codes",
                hint="choose pursuit, light, unrolled, conv, resnet or codebook, or a solver that needs no gate",
            )
    return made(
        experts=experts,
        channels=channels,
        grid_shape=(height, width),
        width=config.width,
        generator=generator,
        rank=config.rank,
    )
