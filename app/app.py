"""`python -m app --run DIR`: predictions and attention of a run in a browser, on this machine alone."""

import argparse
import os
import signal
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python app/app.py`, as a Space starts it

from app.bundle import BUNDLED  # noqa: E402
from app.runs import choose_run, other_runs  # noqa: E402
from isra_keras.cli import run as run_cli  # noqa: E402
from isra_keras.errors import UserError  # noqa: E402

MAX_WAITING = 100
THREADS = 4


def build_parser():
    """The command line's options."""
    parser = argparse.ArgumentParser(prog="python -m app", description=__doc__)
    parser.add_argument("--run", metavar="DIR", help="run folder (default: the newest below runs/, else a bundled one)")
    parser.add_argument("--against", metavar="DIR", help="another run, for the tab Compare")
    parser.add_argument("--data-dir", metavar="DIR", help="where the run's dataset is now, if it has moved")
    parser.add_argument("--flags", metavar="DIR", default="flagged", help="where flagged images are kept")
    parser.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"), metavar="ADDRESS",
                        help="address to listen on (default: this machine alone)")  # fmt: skip
    parser.add_argument("--port", type=int, default=None, help="default: the first free one from 7860")
    parser.add_argument("--share", action="store_true", help="let gradio tunnel it to the internet")
    parser.add_argument("--no-source-images", action="store_true", help="do not read the source's images")
    return parser


def main(argv=None):
    """Runs the app until it is interrupted; returns the exit code."""
    args = build_parser().parse_args(argv)
    check_address(args.host, args.port)
    signal.signal(signal.SIGTERM, end)  # of a service that is stopped: uploads go away then too
    folder = choose_run(args.run)
    demo, files = make(folder, args.against, args.data_dir, args.flags, not args.no_source_images)
    try:
        _, url, _ = launch(demo, args.host, args.port, args.share)
        bundled = " (bundled: there is none below runs/)" if folder == BUNDLED else ""
        print(f"run {folder}{bundled} at {url} (Ctrl-C ends it)", flush=True)
        demo.block_thread()
    finally:
        demo.close(verbose=False)
        files.close()
    return 0


def check_address(host, port=None):
    """Before anything is loaded: gradio tries each of a hundred ports for five seconds, and says that none is free.

    Raises:
        UserError: if no port has that number, or the address is not this machine's.
    """
    if port is not None and not 1 <= port <= 65535:
        raise UserError(f"Expected --port of 1 to 65535; received {port}.")
    try:
        family, kind, *_, address = socket.getaddrinfo(host.strip("[]") or "127.0.0.1", 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(address)
    except OSError as error:
        raise UserError(f"Expected --host to be an address of this machine, as 127.0.0.1, or 0.0.0.0 for all of them; received "
                        f"'{host}': {error.strerror}.") from error  # fmt: skip


def end(number, frame):
    """Ends the app as Ctrl-C does."""
    raise KeyboardInterrupt(number)


def make(folder, against=None, data_dir=None, flags="flagged", index=True):
    """The app of a run, not yet listening.

    Args:
        folder: run folder.
        against: another run folder, or None.
        data_dir: where the dataset is now.
        flags: folder for flagged images.
        index: read source images in the background.

    Returns:
        (gr.Blocks, `TemporaryFiles` to be closed at the end; the Blocks' `service` is the `RunService`).

    Raises:
        UserError: if the run can't be read, or gradio is not installed.
    """
    from app.storage import TemporaryFiles

    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_RUN_HISTORY"] = "False"  # it would keep uploads in the browser and offer to send them away
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    files = TemporaryFiles()
    try:
        import gradio as gr

        from app import attention_tab, compare_tab, model_tab, predict_tab
        from app.guard import uploads_alone
        from app.service import RunService
        from app.widgets import escaped

        service = RunService(folder, data_dir, index)
        with gr.Blocks(title="isra_keras", analytics_enabled=False, delete_cache=(600, 1800)) as demo:
            method, task = (escaped(service.info.get(*one)) for one in (("method", "model"), ("task", "a task")))
            gr.Markdown(f"# {method} on {task}")
            with gr.Tab("Predict"):
                predict_tab.build(service, files, flags)
            with gr.Tab("Attention"):
                attention_tab.build(service, files)
            with gr.Tab("Model"):
                model_tab.build(service)
            with gr.Tab("Compare"):
                compare_tab.build(service, other_runs(folder, against))
        uploads_alone(demo, files.folder)
    except ModuleNotFoundError as error:
        files.close()
        if error.name and error.name.startswith("gradio"):
            raise UserError("Expected gradio; it is not installed: pip install -e '.[app]'.") from error
        raise
    except BaseException:
        files.close()
        raise
    files.keep()
    demo.service = service
    return demo, files


def launch(demo, host="127.0.0.1", port=None, share=False):
    """Starts listening, in threads of its own.

    Returns:
        (FastAPI app, local URL, public URL or None).

    Raises:
        UserError: if the port is taken.
    """
    from app.guard import no_addresses
    from app.uploads import MAX_BYTES
    from app.widgets import theme

    demo.queue(max_size=MAX_WAITING, default_concurrency_limit=2)
    try:
        return demo.launch(
            server_name=host, server_port=port, share=share, prevent_thread_lock=True, quiet=True, show_error=False,
            max_threads=THREADS, max_file_size=MAX_BYTES, footer_links=[], ssr_mode=False, theme=theme(),
            enable_monitoring=False, pwa=False, mcp_server=False, state_session_capacity=200, app_kwargs=no_addresses(),
        )  # fmt: skip
    except OSError as error:
        raise UserError(f"Expected a free port; {port or '7860 and the next ones'} can't be had: {error}") from error


if __name__ == "__main__":
    sys.exit(run_cli(main))
