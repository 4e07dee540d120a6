"""One app for the whole folder of tests: two runs, listening on this machine."""

import pytest

pytest.importorskip("gradio", reason="the demo's requirements are not installed")


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """(url, service, temporary files, folder of flags)."""
    from app.app import launch, make
    from tests.app.runs import make_app_run

    root = tmp_path_factory.mktemp("runs")
    run = make_app_run(root / "isra")
    make_app_run(root / "plain", semantic=False, seed=1)
    flags = root / "flagged"
    demo, files = make(run, flags=str(flags))
    _, url, _ = launch(demo)
    demo.service.index.thread.join(60)
    yield url, demo.service, files, flags
    demo.close(verbose=False)
    files.close()
    assert not files.folder.exists()


@pytest.fixture()
def client(served):
    from gradio_client import Client

    return Client(served[0], verbose=False)


@pytest.fixture(scope="session")
def image(served, tmp_path_factory):
    """File of a glyph."""
    from PIL import Image

    path = tmp_path_factory.mktemp("images") / "glyph.png"
    Image.fromarray(served[1].index.example(3)).save(path)
    return str(path)
