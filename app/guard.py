"""What a request may name: uploads alone. No other file of this machine is opened, no address is asked for anything."""

import os
import re
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

REFUSED = re.compile("https?:|^[^=]*/(process_recording|(undo-)?vibe-)", re.IGNORECASE)
"""Paths that fetch addresses, and what gradio offers beside the page: transcoding of recordings, editing by a model. An
upload, which is behind /file=, may be called so."""


def uploads_alone(demo, folder):
    """Refuses requests that name a file which is no upload, whichever endpoint and widget they are for.

    It comes before gradio's own look at them, which fetches addresses and checks only what is marked as a file.

    Args:
        demo: `gr.Blocks`, changed in place.
        folder: where uploads are.
    """
    before, inside = demo.preprocess_data, os.path.realpath(folder)

    async def checked(block_fn, inputs, *args, **kwargs):
        for path in _named_files(inputs):
            if not (isinstance(path, str) and Path(os.path.realpath(path)).is_relative_to(inside)):
                raise gr.Error("Upload the image first.", print_exception=False)
        return await before(block_fn, inputs, *args, **kwargs)

    demo.preprocess_data = checked


def _named_files(inputs):
    """Every "path" in a request, however deep."""
    waiting = [inputs]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if value.get("path"):
                yield value["path"]
            waiting.extend(value.values())
        elif isinstance(value, (list, tuple)):
            waiting.extend(value)


class NoAddresses:
    """ASGI middleware against `REFUSED`: gradio's /file=ADDRESS would fetch whatever a client asks for."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and REFUSED.search(scope["path"]):
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"This server does not do that."})
            return
        await self.app(scope, receive, send)


def no_addresses():
    """`app_kwargs` of `gr.Blocks.launch`."""
    return {"middleware": [Middleware(NoAddresses)]}
