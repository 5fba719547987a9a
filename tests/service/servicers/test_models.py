"""ModelService over a real channel."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from mlx_grpc.v1 import models_pb2 as pb
from mlx_grpc.v1 import models_pb2_grpc
from tests import tiny
from tests.calls import refused


@pytest.fixture
def stub(channel: aio.Channel) -> Any:
    return models_pb2_grpc.ModelServiceStub(channel)


async def test_models_are_listed_in_their_order(stub: Any) -> None:
    """The default one first, and each ready."""
    models = (await stub.ListModels(pb.ListModelsRequest())).models
    assert [model.name for model in models] == ["tiny", "talker", "bare"]
    assert {model.state for model in models} == {pb.MODEL_STATE_READY}
    assert [model.has_chat_template for model in models] == [True, True, False]
    assert [model.context_length for model in models] == [1 << 15, 1 << 15, 64]


async def test_a_model_is_described(stub: Any, talker_model: Path) -> None:
    """By what its files say and what it takes in memory."""
    model = (await stub.GetModel(pb.GetModelRequest(name="talker"))).model
    words = tiny.tokenizer()
    assert (model.name, model.source, model.model_type, model.adapter) == (
        *("talker", str(talker_model)),
        *("llama", "chatml"),
    )
    assert (model.vocab_size, model.has_reasoning, model.error) == (words.get_vocab_size(), True, "")
    assert words.token_to_id(tiny.END) in model.stop_token_ids
    written = (talker_model / "config.json").stat().st_mtime
    assert model.created.ToDatetime(UTC) == datetime.fromtimestamp(int(written), UTC)
    weights = (talker_model / "model.safetensors").stat().st_size
    assert 0.9 * weights < model.weights_bytes <= weights
    assert model.kv_tokens > 0
    assert model.kv_bytes > 0


async def test_no_name_is_the_first_model(stub: Any) -> None:
    """As in requests."""
    assert (await stub.GetModel(pb.GetModelRequest())).model.name == "tiny"


async def test_an_unknown_name_is_not_found(stub: Any) -> None:
    """The name is in the details."""
    refusal = await refused(stub.GetModel(pb.GetModelRequest(name="nobody")))
    assert refusal.code == grpc.StatusCode.NOT_FOUND
    assert refusal.details["ResourceInfo"].resource_name == "nobody"  # type: ignore[attr-defined]
