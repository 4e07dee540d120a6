"""The command before it listens."""

import pytest

from app import app
from isra_keras.errors import UserError


@pytest.mark.parametrize("words, text", [
    (["--port", "99999"], "--port of 1 to 65535"), (["--port", "0"], "--port of 1 to 65535"),
    (["--host", "203.0.113.7"], "address of this machine"), (["--host", "no.such.host.invalid"], "address of this machine"),
])  # fmt: skip
def test_addresses_that_nobody_can_listen_at_are_refused_before_the_model_is_loaded(words, text, monkeypatch):
    """A port out of range was a traceback; another machine's address took eight minutes to be "no free port"."""
    monkeypatch.setattr(app, "choose_run", lambda given: pytest.fail("too late"))
    with pytest.raises(UserError, match=text):
        app.main(words)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost", ""])
def test_addresses_of_this_machine_are_taken(host):
    app.check_address(host, 7860)
