"""lm-evaluation-harness' `local-completions`, on a task of log-likelihoods and one of generation."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Folders
from tests.e2e.clients.conftest import RunClient
from tests.taught import taught_folder

MODEL = "qwen"
TASKS = Path(__file__).parent / "tasks"

Samples = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def samples(
    run_client: RunClient, taught_url: str, model_folder: Folders, tmp_path_factory: pytest.TempPathFactory
) -> Samples:
    """Run both tasks, several prompts to a request; what it wrote down of each question."""
    folder = tmp_path_factory.mktemp("lm-eval")
    settings = {
        "model": MODEL,
        "base_url": f"{taught_url}/v1/completions",
        "tokenizer": taught_folder(model_folder("llama").parent, MODEL),
        "tokenizer_backend": "huggingface",
        "max_retries": 1,
    }
    named = ",".join(f"{name}={value}" for name, value in settings.items())
    run_client(
        [
            *("lm-eval", "run", "--model", "local-completions", "--model_args", named),
            *("--batch_size", "3", "--tasks", "choose.yaml", "write.yaml"),
            *("--output_path", str(folder), "--log_samples"),
        ],
        TASKS,
    )
    return {
        task: [json.loads(line) for path in folder.rglob(f"samples_{task}_*") for line in path.read_text().splitlines()]
        for task in ("choose", "write")
    }


async def test_likelihoods_are_the_models_own(samples: Samples, taught_url: str) -> None:
    """Each is what scoring the text without generating gives, though the model would end where the text does."""
    async with httpx.AsyncClient(base_url=taught_url, timeout=60) as client:
        for sample in samples["choose"]:
            prompt = sample["doc"]["prompt"]
            for choice, [[likelihood, _]] in zip(sample["doc"]["choices"], sample["resps"], strict=True):
                scoring = {"model": MODEL, "prompt": prompt + choice, "max_tokens": 0, "echo": True, "logprobs": 1}
                scored = (await client.post("/v1/completions", json=scoring)).json()["choices"][0]["logprobs"]
                of_choice = [
                    logprob
                    for logprob, offset in zip(scored["token_logprobs"], scored["text_offset"], strict=True)
                    if offset >= len(prompt)
                ]
                assert float(likelihood) == pytest.approx(sum(of_choice), abs=1e-3)


def test_the_answer_that_is_known_is_chosen(samples: Samples) -> None:
    """What the model has learned is likeliest, and the only one that it would write greedily."""
    assert len(samples["choose"]) == 2
    for sample in samples["choose"]:
        assert sample["acc"] == 1
        greedy = [is_greedy == "True" for [[_, is_greedy]] in sample["resps"]]
        assert greedy == [index == sample["doc"]["label"] for index in range(3)]


def test_what_is_written_matches(samples: Samples) -> None:
    """The model writes what it has learned, up to the task's stop string."""
    assert [sample["exact_match"] for sample in samples["write"]] == [1, 1]
