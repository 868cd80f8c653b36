import re
from typing import Any

import pytest

from nid_dist.errors import UserError
from nid_dist.parallel.engines.deepspeed_options import deepspeed_config, refuse_unreadable


def test_what_is_set_passes_beside_what_the_rest_implies() -> None:
    options = {"steps_per_print": 7, "zero_optimization": {"stage": 1, "round_robin_gradients": True}}
    config = deepspeed_config(4, 1, options)
    assert config["steps_per_print"] == 7
    assert config["gradient_accumulation_steps"] == 4
    assert config["gradient_clipping"] == 0
    assert config["zero_optimization"]["stage"] == 1 and config["zero_optimization"]["round_robin_gradients"]
    assert options == {"steps_per_print": 7, "zero_optimization": {"stage": 1, "round_robin_gradients": True}}
    refuse_unreadable(config)
    for stage in (0, 1):
        refuse_unreadable(deepspeed_config(1, stage, {}))
        refuse_unreadable(deepspeed_config(1, stage, {"zero_optimization": None, "communication_data_type": "bf16"}))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gradient_clipping": 1.0}, "parallel.deepspeed.gradient_clipping.*optimizer.clip_norm"),
        ({"train_batch_size": 8}, "train_batch_size.*training.batch"),
        ({"train_micro_batch_size_per_gpu": 8}, "train_micro_batch_size_per_gpu.*training.batch"),
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps.*optimizer.accumulation"),
        ({"optimizer": {"type": "Adam"}}, "parallel.deepspeed.optimizer.*optimizer.name"),
        ({"scheduler": {}}, "scheduler.*optimizer.schedule"),
        ({"fp16": {"enabled": True}}, "fp16.*training.precision"),
        ({"bf16": {}}, "bf16.*training.precision"),
        ({"amp": {}}, "amp.*training.precision"),
        ({"torch_autocast": {}}, "torch_autocast.*training.precision"),
        ({"zero_optimization": {"stage": 0}}, "stage: found 0.*expected 1.*parallel.zero_stage"),
        ({"zero_optimization": {"stage": 2}}, "found 2 .ZeRO-2 sends.*parallel.zero_stage"),
        ({"zero_optimization": {"stage": 3}}, "found 3 .ZeRO-3 refuses layers of experts.*parallel.zero_stage"),
        ({"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}, "offload_optimizer.*remove it"),
        ({"zero_optimization": {"overlap_comm": True}}, "overlap_comm: found True.*False.*remove it"),
        ({"zero_optimization": {"contiguous_gradients": False}}, "contiguous_gradients.*different experts"),
        ({"zero_optimization": {"reduce_bucket_siz": 1}}, "write zero_optimization.reduce_bucket_size"),
        ({"zero_optimization": 1}, "zero_optimization: found 1.*a section"),
        ({"gradient_allreduce_op": "sum"}, "gradient_allreduce_op: found 'sum'.*'mean'"),
        ({"step_per_print": 5}, "step_per_print.*write steps_per_print"),
        ({"train_batch": 5}, "train_batch.*set training.batch"),
        ({"hybrid_engine": {}}, "hybrid_engine.*remove it"),
        ({"zero_optimization": {3: 4}}, "parallel.deepspeed.zero_optimization.3.*remove it"),
    ],
)
def test_what_contradicts_or_does_nothing_is_refused(options: dict[Any, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        deepspeed_config(1, 1, options)
    assert re.search(said, str(error.value)), error.value


@pytest.mark.parametrize(
    "options",
    [
        {"communication_data_type": "int4"},
        {"zero_optimization": {"reduce_bucket_size": "many"}},
        {"zero_optimization": {"reduce_bucket_size": -1}},
        {"tensorboard": {"enabled": "perhaps"}},
        {"comms_logger": 3},
    ],
)
def test_a_value_that_deepspeed_does_not_take_is_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="parallel.deepspeed: found what DeepSpeed does not take") as error:
        refuse_unreadable(deepspeed_config(1, 1, options))
    assert "\n" not in str(error.value)
