"""DeepSpeed's configuration: what the rest of ours implies, and the user's `parallel.deepspeed` on top."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from nid_dist.errors import UserError

_BLOCK = "parallel.deepspeed"

# Settings of DeepSpeed's that have another place in ours.
_OURS = {
    "train_batch_size": "training.batch",
    "train_micro_batch_size_per_gpu": "training.batch and optimizer.accumulation",
    "gradient_accumulation_steps": "optimizer.accumulation",
    "managed_gradient_accumulation": "optimizer.accumulation",
    "gradient_clipping": "optimizer.clip_norm",
    "optimizer": "optimizer.name, lr, betas and weight_decay",
    "scheduler": "optimizer.schedule and warmup_steps",
    "fp16": "training.precision",
    "bf16": "training.precision",
    "amp": "training.precision",
    "torch_autocast": "training.precision",
    "data_types": "training.precision",
    "expert_parallel": "parallel.expert_parallel_size",
    "use_data_before_expert_parallelism": "parallel.expert_parallel_size",
    "checkpoint": "training.checkpoint_every and keep",
}

# Settings that have but one value here, and why.
_FIXED: dict[str, tuple[Any, str]] = {
    "gradient_allreduce_op": ("mean", "every rank's loss is a mean"),
    # It would wait for the GPU before each bucket, besides.
    "zero_optimization.overlap_comm": (False, "gradients are sent once, after the step's last micro-batch"),
    "zero_optimization.contiguous_gradients": (True, "without it ZeRO-1 mixes the gradients of different experts"),
    "zero_optimization.reduce_scatter": (True, "without it ZeRO-1 mixes the gradients of different experts"),
    "zero_optimization.offload_optimizer": (None, "Adam runs where the parameters are"),
    "zero_optimization.offload_param": (None, "Adam runs where the parameters are"),
    "zero_optimization.cpu_offload": (False, "Adam runs where the parameters are"),
}

_PASSED = {
    "comet",
    "comms_logger",
    "communication_data_type",
    "csv_monitor",
    "dump_state",
    "gradient_predivide_factor",
    "log_level",
    "memory_breakdown",
    "prescale_gradients",
    "steps_per_print",
    "tensorboard",
    "timers",
    "wall_clock_breakdown",
    "wandb",
    "zero_allow_untested_optimizer",
    "zero_force_ds_cpu_optimizer",
    "zero_optimization",
    "zero_optimization.allgather_bucket_size",
    "zero_optimization.allgather_partitions",
    "zero_optimization.parameter_alignment",
    "zero_optimization.reduce_bucket_size",
    "zero_optimization.round_robin_gradients",
    "zero_optimization.stage",
    "zero_optimization.use_multi_rank_bucket_allreduce",
}

_KNOWN = [*_PASSED, *_OURS, *_FIXED]

_STAGES = {
    2: "ZeRO-2 sends gradients after every micro-batch, before all ranks' are complete",
    3: "ZeRO-3 refuses layers of experts",
}


def deepspeed_config(accumulation: int, zero_stage: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """What `deepspeed.initialize` is given, with `options`, the user's `parallel.deepspeed`.

    DeepSpeed computes in float32 and does not clip: `training.precision` is PyTorch's doing, and its own norm leaves
    out that experts are spread over ranks. ZeRO's stage is 0, or 1: the optimiser's state is spread over replicas.

    Raises:
        UserError: when an option contradicts another key of ours, is not for experts, or is not known.
    """
    for key, value in _flat(options):
        _check(key, value, zero_stage)
    zero = dict(options.get("zero_optimization") or {}) | {"stage": zero_stage}
    if zero_stage:
        zero |= {"overlap_comm": False, "compute_grad_norm": False}
    return {
        "timers": {"throughput": {"enabled": False}},  # they would wait for the GPU in every step
        **options,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": 0.0,  # by default DeepSpeed clips to 1
        # For DeepSpeed's own figures of throughput only: signals of a rank are not known here.
        "train_micro_batch_size_per_gpu": 1,
    }


def refuse_unreadable(config: Mapping[str, Any]) -> None:
    """Let DeepSpeed read a configuration that `deepspeed_config` made.

    Raises:
        UserError: when it finds a value that it does not take.
    """
    from deepspeed.runtime.config import DeepSpeedConfig, DeepSpeedConfigError

    try:
        DeepSpeedConfig(dict(config))
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError, DeepSpeedConfigError) as error:
        raise UserError(
            _BLOCK,
            found=f"what DeepSpeed does not take ({error})",
            expected="values as in DeepSpeed's documentation",
            hint="correct or remove the key",
        ) from None


def _flat(options: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for key, value in options.items():
        yield key, value
        if key == "zero_optimization" and isinstance(value, Mapping):
            yield from ((f"{key}.{inner}", setting) for inner, setting in value.items())


def _check(key: str, value: Any, zero_stage: int) -> None:
    where = f"{_BLOCK}.{key}"
    if key in _OURS:
        ours = _OURS[key]
        raise UserError(
            where, found=f"a second place for {ours}", expected="one", hint=f"remove it, and set {ours} instead"
        )
    if key == "zero_optimization" and not isinstance(value, Mapping | None):
        raise UserError(where, found=repr(value), expected="a section of keys", hint="indent its keys below it")
    if key == "zero_optimization.stage" and value != zero_stage:
        raise UserError(
            where,
            found=f"{value}" + (f" ({_STAGES[value]})" if value in _STAGES else ""),
            expected=f"{zero_stage}, the value of parallel.zero_stage",
            hint="remove it, and set parallel.zero_stage to 0 or 1",
        )
    if key in _FIXED:
        allowed, reason = _FIXED[key]
        if value != allowed:
            raise UserError(where, found=repr(value), expected=f"{allowed!r}, as {reason}", hint="remove it")
    elif key not in _PASSED:
        section, _, name = key.rpartition(".")
        known = {other.rpartition(".")[2]: other for other in _KNOWN if other.rpartition(".")[0] == section}
        near = [known[other] for other in difflib.get_close_matches(name, known, n=1, cutoff=0.6)]
        raise UserError(
            where,
            found=f"the key {name}, which does nothing here",
            expected="one of " + ", ".join(sorted(other for other in known if known[other] in _PASSED)),
            hint="remove it" if not near else f"set {_OURS[near[0]]}" if near[0] in _OURS else f"write {near[0]}",
        )
