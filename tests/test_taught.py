"""The taught models say their lessons, on what the service makes of their conversations."""

import json
from pathlib import Path

import pytest
from grpc import aio
from tokenizers import Tokenizer as Words

from mlx_grpc.v1 import generation_pb2 as pb
from service.adapters.chat_format import ChatFormat
from service.adapters.registry import get_adapter
from service.text.tokenizer import Tokenizer
from service.types import Message, Role, Tool, ToolCall
from tests import calls
from tests.conftest import Folders, StartService
from tests.taught import COURSES, Course, Lesson, taught_folder
from tests.taught import Message as Spoken


def message(said: Spoken) -> Message:
    """Read a message of OpenAI's API."""
    made = [
        ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in said.get("tool_calls", ())
    ]
    return Message(
        Role(said["role"]),
        said["content"],
        tool_call_id=said.get("tool_call_id", ""),
        tool_calls=tuple(made),
        reasoning=said.get("reasoning_content", ""),
    )


def prompt(folder: Path, course: Course, lesson: Lesson) -> list[int]:
    """Render a lesson's conversation as the service does, to token ids."""
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    adapter = get_adapter("llama", vocabulary=tokenizer, template=course.template)
    tokens = {"bos_token": course.begin or "", "eos_token": course.end}
    form = ChatFormat.of(adapter, tokenizer, chat_template=course.template, special_tokens=tokens, stop_ids=[])
    tools = [
        Tool(function["name"], function["description"], json.dumps(function["parameters"]))
        for function in (tool["function"] for tool in lesson.tools)
    ]
    return list(form.render([message(said) for said in lesson.messages], tools=tools, kwargs=lesson.kwargs).ids)


@pytest.mark.parametrize("name", COURSES)
async def test_each_lesson_is_known_word_for_word(
    model_folder: Folders, start_service: StartService, name: str
) -> None:
    """Greedily, each prompt is answered by the tokens of its lesson and the end of the turn."""
    course = COURSES[name]
    folder = taught_folder(model_folder("llama").parent, name)
    words: Words = Words.from_file(str(folder / "tokenizer.json"))
    service = await start_service({name: folder})
    async with aio.insecure_channel(service.address) as channel:
        for lesson in course.lessons.values():
            request = calls.text_request(model=name, output={"tokenIds": True}, stopping={"maxTokens": 200})
            request.token_ids.CopyFrom(pb.TokenIds(ids=prompt(folder, course, lesson)))
            answer = await calls.answer(channel, request)
            written = words.encode(lesson.written + (lesson.end or course.end), add_special_tokens=False)
            assert answer.ids == written.ids, answer.text
