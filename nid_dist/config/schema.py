"""The configuration: one pydantic model per YAML section, strict, with every default in one place."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BeforeValidator, Field, model_validator

from nid_dist.config.loading import load_as
from nid_dist.config.section import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PathText,
    PositiveFloat,
    PositiveInt,
    Section,
    SignalsSection,
)
from nid_dist.errors import UserError
from nid_dist.precision import Precision
from nid_dist.tasks.audio.config import AudioSection
from nid_dist.tasks.ct.config import PhantomsSection, Tomography
from nid_dist.tasks.images.config import PhotosSection
from nid_dist.tasks.shapes.config import ShapesSection
from nid_dist.tasks.video.config import VideoSection

_Signals = TypeVar("_Signals", bound=SignalsSection)


def _with_source(raw: Any) -> Any:
    """What names no source means that of the default."""
    return {"source": PhotosSection().source, **raw} if isinstance(raw, dict) else raw


Signals = Annotated[
    PhotosSection | PhantomsSection | VideoSection | ShapesSection | AudioSection,
    Field(discriminator="source"),
    BeforeValidator(_with_source),
]
"""The section `signals`: one class per task, told apart by the key `source`."""


class Encoding(Section):
    """How a coordinate becomes the first features (see `nid_dist/dictionary/encodings.py`)."""

    kind: Literal[
        "cosine",
        "spline",
        "identity",
        "positional",
        "fourier",
        "rbf",
        "laplacian",
        "matern",
        "rational_quadratic",
        "gamma_exponential",
    ] = "cosine"
    features: PositiveInt = Field(255, description="cosines, splines, centres or frequencies (sine and cosine of each)")
    scale: PositiveFloat = Field(
        10.0, description="of the frequencies, in radians per unit of x in [-1, 1]; random kernels: 1 / length scale"
    )
    mirror: NonNegativeInt | None = Field(
        None, description="an axis along which every signal is mirror-symmetric: f sees |x| there; null: none"
    )
    octaves: PositiveInt = Field(6, description="`positional`: frequencies pi * 2^0 ... pi * 2^(octaves-1)")
    nu: PositiveFloat = Field(1.5, description="`matern`: smoothness")
    alpha: PositiveFloat = Field(1.0, description="`rational_quadratic`: mixture of length scales")
    gamma: Annotated[float, Field(gt=0, le=2)] = Field(1.0, description="`gamma_exponential`: exponent in (0, 2]")


class Dictionary(Section):
    """The experts b_j: encoding, shared layers (trunk), private layers (heads)."""

    experts: PositiveInt = Field(1024, description="n, the TOTAL number of experts over all ranks")
    encoding: Encoding = Encoding()
    width: PositiveInt = Field(256, description="h, the width of the shared layers")
    shared_layers: NonNegativeInt = 1
    private_layers: PositiveInt = Field(1, description="1: linear heads; 2 or more: deep experts")
    private_width: PositiveInt = Field(64, description="width inside deep experts")
    activation: Literal["relu", "gelu", "sine", "tanh"] = "gelu"
    omega: PositiveFloat = Field(30.0, description="frequency factor of the sine activation (SIREN)")
    trunk_output: Literal["linear", "activated"] = Field(
        "linear", description="whether the last shared layer is followed by the activation"
    )
    whiten: bool = Field(True, description="orthonormal features at initialisation (trunk_output: linear)")
    init: Literal["cosine", "principal", "random"] = Field(
        "cosine",
        description="linear heads: cosines or the signals' principal components, and pieces of signals; `principal` "
        "also for the features, where the last shared layer is linear and narrower than what it is given",
    )
    strategy: Literal["auto", "merge", "combine"] = Field("auto", description="how f is evaluated")
    merge: Literal["auto", "product", "gather", "kernel"] = Field(
        "auto", description="how heads are merged; auto: as measured on a GPU, by a rule on a CPU"
    )
    chunk_mb: PositiveInt | None = Field(
        None, description="memory for evaluated atoms at a time (combine); null: 256 on a CPU, a share of a GPU's"
    )


class Gate(Section):
    """The network that predicts a signal's code."""

    kind: Literal["light", "conv", "resnet", "codebook", "pursuit", "unrolled", "temporal", "pointnet", "none"] = (
        "light"
    )
    width: PositiveInt = 64
    harmonics: PositiveInt = Field(16, description="`temporal`: waves of 1/2, 1, ... this / 2 periods over the video")
    iterations: PositiveInt = Field(8, description="`pursuit`: blocks of atoms; `unrolled`: thresholding iterations")
    rank: PositiveInt | None = Field(
        None,
        description="numbers that the n logits are linear in, for very many experts; null: all that the gate computes",
    )
    noisy: bool = Field(False, description="noisy top-k while training in mode `gate` (Shazeer et al. 2017)")


class Phase(Section):
    """A part of the training, in one mode.

    `gate`: all jointly (the paper); `solve`: experts on solved codes, which the gate learns meanwhile; `distill`: the
    gate alone learns the codes of the frozen dictionary.
    """

    mode: Literal["gate", "solve", "distill"]
    share: PositiveFloat = Field(1.0, description="of the steps, relative to the other phases")
    loss: Literal["l2", "l1", "huber", "welsch"] | None = Field(None, description="in this phase; null: objective.loss")


class Coding(Section):
    """How codes are found."""

    support: PositiveInt = Field(64, description="k, the most non-zero coefficients of a code")
    gate: Gate = Gate()
    phases: list[Phase] = Field([Phase(mode="solve", share=0.7), Phase(mode="distill", share=0.3)], min_length=1)
    warmup_steps: NonNegativeInt = Field(0, description="first steps of mode `gate`: dense codes with an L1 penalty")
    blocks: PositiveInt = Field(8, description="rounds of atom selection of the solver in training")
    ridge: NonNegativeFloat = Field(1e-5, description="relative weight of ridge, times the mean squared atom norm")
    prior_rank: NonNegativeInt = Field(
        128, description="linear heads: directions of the Gaussian prior on merged heads (solver map); 0: no prior"
    )
    prior_signals: PositiveInt = Field(2048, description="training signals that it is learned from, at the end")
    mixture: NonNegativeInt = Field(
        0,
        description="with the prior: kinds of signals that it tells apart, of a hundred signals each at least; 0: one",
    )


class Objective(Section):
    """The loss L and the penalties P."""

    loss: Literal["l2", "l1", "huber", "welsch"] = "l2"
    huber: PositiveFloat = Field(0.05, description="where Huber's loss turns from square to linear")
    welsch: PositiveFloat = Field(0.035, description="where Welsch's loss turns down: above the noise")
    ordered: NonNegativeFloat = Field(0.0, description="weight of the ordered sparsity of codes in mode `gate`")
    order: NonNegativeFloat = Field(
        5.0, description="beta: by exp(beta) a component of the last expert costs more than one of the first"
    )
    clamp: PositiveFloat | None = Field(None, description="f is cut at ± this before the loss (DeepSDF); null: not")
    l1: NonNegativeFloat = Field(0.01, description="weight of mean |alpha| in the warm-up")
    balance: NonNegativeFloat = Field(0.01, description="weight of CV^2 of importance and load in mode `gate`")
    importance: Literal["absolute", "signed"] = "absolute"
    distill: NonNegativeFloat = Field(1.0, description="weight of the gate's regression on solved codes")


class Optimizer(Section):
    """Adam or AdamW, with warm-up and a decaying rate."""

    name: Literal["adam", "adamw"] = "adam"
    lr: PositiveFloat = Field(1e-3, description="learning rate of the experts")
    trunk_lr: NonNegativeFloat = Field(1e-5, description="learning rate of the trunk")
    gate_lr: PositiveFloat = Field(1e-3, description="learning rate of the gate")
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    weight_decay: NonNegativeFloat = 0.0
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: NonNegativeInt = 50
    clip_norm: PositiveFloat | None = 1.0
    accumulation: PositiveInt = Field(1, description="micro-batches whose gradients make one step")


class Training(Section):
    """How long, how much at a time, from which seed, and what is kept."""

    steps: PositiveInt = 2000
    max_seconds: PositiveFloat | None = Field(
        None, description="bounds the whole run, initial values and last evaluation included; rates follow the clock"
    )
    batch: PositiveInt = Field(128, description="signals in one optimiser step, over all ranks")
    coordinates: PositiveInt | None = Field(None, description="coordinates drawn per step; null: all of a signal")
    seed: NonNegativeInt = 0
    precision: Precision = Field(
        "fp32", description="of products, in the trunk, gate, merge and evaluation; codes are solved in fp32 or more"
    )
    eval_every: NonNegativeInt = Field(500, description="steps between evaluations; 0: only at the end")
    checkpoint_every: NonNegativeInt = Field(500, description="steps between checkpoints; 0: only at the end")
    keep: PositiveInt = Field(3, description="checkpoints kept")
    threads: PositiveInt | None = Field(None, description="CPU threads; null: PyTorch's choice")


class Parallel(Section):
    """Where it runs."""

    device: str = Field(
        "auto", description="auto: the GPU where there is one, for each process its own; cpu, cuda, cuda:N"
    )
    engine: Literal["auto", "local", "deepspeed", "fairscale"] = Field(
        "auto", description="auto: local for one process, deepspeed for several"
    )
    expert_parallel_size: PositiveInt | None = Field(
        None,
        description="R, ranks that share one set of the n experts (n / R each); null: as many as fit in a node",
    )
    cuda_graphs: bool = Field(True, description="record a step as a CUDA graph and replay it (engine local, on a GPU)")
    zero_stage: Literal[0, 1] = Field(0, description="deepspeed: 1 shards the optimiser's state over replicas")
    checkpoint_gate: bool = Field(False, description="recompute the gate's activations, which saves memory")
    timeout_seconds: PositiveFloat = Field(600.0, description="after which a rank that does not answer ends the job")
    rendezvous_seconds: PositiveFloat = Field(120.0, description="that processes wait for each other at the start")
    deepspeed: dict[str, Any] = Field({}, description="DeepSpeed's own configuration, passed through to it")


class Logging(Section):
    """What is written while training."""

    run_dir: PathText = "runs/default"
    log_every: PositiveInt = 20
    pictures_every: NonNegativeInt = Field(500, description="steps between TensorBoard pictures; 0: none")
    tensorboard: bool = True
    progress: bool = True


class Config(Section):
    """Everything that defines a run."""

    signals: Signals = PhotosSection()
    dictionary: Dictionary = Dictionary()
    coding: Coding = Coding()
    objective: Objective = Objective()
    optimizer: Optimizer = Optimizer()
    training: Training = Training()
    parallel: Parallel = Parallel()
    logging: Logging = Logging()
    tomography: Tomography | None = Field(None, description="scans of the signals: reconstruction from few views")

    @classmethod
    def from_yaml(cls, path: str | Path | None, overrides: Sequence[str] = ()) -> "Config":
        """Read a configuration as `load_as` does: a YAML file, or (a string) a shipped one's name; None: defaults.

        Raises:
            UserError: the file or an override cannot be read, or a value is not allowed.
        """
        return load_as(cls, path, overrides)

    def to_yaml(self) -> str:
        """Every value as YAML that `from_yaml` reads back to an equal configuration, in the order of the schema."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    @model_validator(mode="after")
    def _check(self) -> "Config":
        n, k, r = self.dictionary.experts, self.coding.support, self.parallel.expert_parallel_size or 1
        if k > n:
            raise ValueError(f"coding.support {k} is larger than dictionary.experts {n}; choose k <= n")
        if n % r:
            raise ValueError(
                f"dictionary.experts {n} is not divisible by parallel.expert_parallel_size {r}; choose a multiple"
            )
        if self.training.batch % self.optimizer.accumulation:
            raise ValueError(
                f"training.batch {self.training.batch} is not divisible by optimizer.accumulation "
                f"{self.optimizer.accumulation}; choose a multiple"
            )
        if self.coding.gate.kind == "none" and any(p.mode != "solve" for p in self.coding.phases):
            raise ValueError("coding.phases other than 'solve' need a gate; choose coding.gate.kind")
        if self.coding.gate.rank is not None and self.coding.gate.kind in ("unrolled", "pursuit"):
            raise ValueError(
                f"coding.gate.rank is for gates with a last layer, not for {self.coding.gate.kind!r}; leave it out"
            )
        if self.coding.gate.kind == "pursuit" and any(p.mode != "solve" for p in self.coding.phases):
            raise ValueError(
                "coding.gate.kind 'pursuit' learns from solved codes alone; choose coding.phases [{mode: solve}]"
            )
        self.signals.check(self.coding.gate.kind, [phase.mode for phase in self.coding.phases])
        if self.tomography is not None:
            self.tomography.check(self.signals, self.coding.gate.kind)
        if self.dictionary.private_layers > 1 and self.dictionary.strategy == "merge":
            raise ValueError("dictionary.strategy 'merge' needs linear heads (private_layers: 1)")
        return self

    @property
    def task(self) -> str:
        """The name of the task, as in `nid_dist/tasks/registry.py`."""
        return self.signals.task if self.tomography is None else self.tomography.task

    def signals_of(self, kind: type[_Signals], where: str = "the dictionary") -> _Signals:
        """The section `signals`, as what a task (or several, by their classes) needs it to be.

        `where` says what has this configuration.

        Raises:
            UserError: when the signals are of another task.
        """
        if not isinstance(self.signals, kind):
            raise UserError(
                where,
                found=f"one of {self.task} (signals.source: {self.signals.source})",
                expected=f"one of {kind.task}",
                hint=f"choose another, or train one of {kind.task}",
            )
        return self.signals
