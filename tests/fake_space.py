"""A Hugging Face Space as far as Gradio can tell, and calls to an app as a program makes them."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from typing import Any

import gradio as gr
import gradio.oauth
import httpx
import itsdangerous
import pytest
from gradio.components.api_component import Api

SECRET = "the secret of the OAuth app"


def enter_space(patch: pytest.MonkeyPatch) -> None:
    """Make Gradio believe that it runs on a Space with `hf_oauth: true`."""
    oauth = {
        "OAUTH_CLIENT_ID": "id",
        "OAUTH_CLIENT_SECRET": SECRET,
        "OAUTH_SCOPES": "openid profile",
        "OPENID_PROVIDER_URL": "https://huggingface.co",
    }
    for name, value in oauth.items():
        patch.setenv(name, value)
        patch.setattr(gradio.oauth, name, value)  # Gradio reads them when it is imported
    patch.setenv("SYSTEM", "spaces")
    patch.setenv("SPACE_ID", "alice/flowdesign")


def login(name: str, secret: str = SECRET, expires: float = 3600.0) -> dict[str, str]:
    """The cookie that Gradio's login leaves, signed as Starlette's SessionMiddleware signs it."""
    user = {"name": name, "preferred_username": name, "profile": "", "picture": ""}
    session = {"oauth_info": {"userinfo": user, "expires_at": int(time.time() + expires)}}
    key = hashlib.sha256(f"{secret}-v4".encode()).hexdigest()
    data = base64.b64encode(json.dumps(session).encode())
    return {"session": itsdangerous.TimestampSigner(key).sign(data).decode()}


class Caller:
    """Calls any handler of a served app, also those that no button of the page would."""

    def __init__(self, address: str, **options: Any) -> None:
        self.client = httpx.Client(base_url=f"{address}/gradio_api", timeout=60, **options)

    def post(self, fn: Any, data: list[Any], page: str = "a page") -> dict[str, Any]:
        """Call the handler in one request; {"error": ...} when it refuses."""
        body = {"fn_index": fn._id, "data": data, "session_hash": page}
        answer = self.client.post("/run/predict", json=body)
        found: dict[str, Any] = answer.json()
        return found

    def queue(self, fn: Any, data: list[Any], page: str) -> dict[str, Any]:
        """Call the handler through the queue, as the page does; the last message about it."""
        body = {"fn_index": fn._id, "data": data, "session_hash": page}
        self.client.post("/queue/join", json=body).raise_for_status()
        with self.client.stream("GET", "/queue/data", params={"session_hash": page}) as answer:
            for line in answer.iter_lines():
                message = json.loads(line.removeprefix("data: ")) if line else {}
                if message.get("msg") == "process_completed":
                    output: dict[str, Any] = message["output"]
                    return output
        raise AssertionError("the queue closed without an answer")


def empty_values(fn: Any) -> list[Any]:
    """One value for each input of a handler: what its components hold at first."""
    return [_first(block) for block in fn.inputs]


def likely_values(fn: Any) -> list[Any]:
    """One value for each input of a handler, as somebody might fill them in."""
    return [_likely(block) for block in fn.inputs]


def _likely(block: Any) -> Any:
    if isinstance(block, gr.Number | gr.Slider):
        return 1
    if isinstance(block, gr.Checkbox):
        return True
    if isinstance(block, gr.Dropdown | gr.Radio) and block.choices:
        return block.choices[0][1]
    if isinstance(block, gr.Textbox | Api):
        return "a text of more than sixteen letters"
    return _first(block)


def _first(block: Any) -> Any:
    """What a component holds at first; the server keeps the value of a State itself."""
    return None if isinstance(block, gr.State) else getattr(block, "value", None)


def handlers(app: gr.Blocks) -> list[Any]:
    """The handlers of a page, without events that only the browser handles."""
    return [fn for fn in app.fns.values() if fn.fn is not None]
