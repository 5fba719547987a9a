"""Many at once: each gets its own answer."""

import asyncio
import random
from typing import Any

from grpc import aio

from mlx_grpc.v1 import generation_pb2 as pb
from mlx_grpc.v1.generation_pb2_grpc import GenerationServiceStub
from tests.calls import text_request
from tests.tiny import DIALOGUES

COUNT = 64


def requests() -> list[pb.GenerateRequest]:
    """Make distinct requests of all lengths, greedy and drawn, alone and with choices."""
    chance = random.Random(5)
    made = []
    for number in range(COUNT):
        drawn = {"temperature": chance.choice([0.5, 1, 1.5]), "topP": 0.9, "seed": str(number)}
        fields: dict[str, Any] = {
            "sampling": drawn if number % 3 else {"temperature": 0},
            "stopping": {"maxTokens": chance.randint(5, 60), "ignoreEos": number % 2 == 0},
            "n": chance.choice([1, 1, 1, 2]),
            "requestId": f"request-{number}",
        }
        made.append(text_request(f"{number} " * chance.choice([1, 3, 10, 200]) + "Say it.", **fields))
    return made


async def texts(stub: Any, request: pb.GenerateRequest) -> list[str]:
    """Ask; the text of each choice."""
    said = [""] * (request.n or 1)
    async for event in stub.Generate(request, timeout=300):
        said[event.index] += event.text.text
        if event.WhichOneof("event") == "started":
            assert event.started.request_id == request.request_id
    return said


async def test_no_text_crosses(channel: aio.Channel) -> None:
    """Each of 64 requests at once gets, word for word, what it gets alone."""
    stub = GenerationServiceStub(channel)
    together = await asyncio.gather(*(texts(stub, request) for request in requests()))
    alone = [await texts(stub, request) for request in requests()]
    assert together == alone
    assert len({said for choices in alone for said in choices}) > COUNT * 0.9


async def test_each_question_has_its_answer(channel: aio.Channel) -> None:
    """A model that knows its answers by heart gives each of 64 askers the right one."""
    stub = GenerationServiceStub(channel)

    async def ask(question: str) -> str:
        messages = [pb.ChatMessage(role=pb.ROLE_USER, content=[pb.ContentPart(text=question)])]
        request = pb.ChatRequest(model="talker", messages=messages, sampling=pb.SamplingParams(temperature=0))
        return "".join([event.text.text async for event in stub.Chat(request, timeout=300)])

    questions = [question for _ in range(COUNT // len(DIALOGUES)) for question in DIALOGUES]
    answers = await asyncio.gather(*map(ask, questions))
    for question, answer in zip(questions, answers, strict=True):
        assert answer == DIALOGUES[question].rpartition("</think>\n\n")[2]
