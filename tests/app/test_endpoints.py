"""Every endpoint through gradio's client, as another program would call it."""

import csv
import json
import os

import numpy as np
import pytest
from gradio_client import handle_file
from PIL import Image

from app import storage
from tests.app.bad_uploads import uploads


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def chosen(update):
    """Value of a drop-down's answer."""
    return update["value"] if isinstance(update, dict) else update


def test_predict_says_what_the_network_says(client, served, image):
    table, summary, download = client.predict(handle_file(image), None, 3, api_name="/predict")
    service = served[1]
    logits = service.network.predict_on_batch(np.asarray(Image.open(image), "float32")[None])["logits"][0]
    best = service.class_names[int(np.argmax(logits))]
    assert table["data"][0][1] == best and best in summary
    rows = list(csv.DictReader(open(chosen(download))))
    p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert rows[0]["class"] == best and float(rows[0]["confidence"]) == pytest.approx(p.max(), abs=1e-5)
    assert float(rows[0]["entropy_nats"]) == pytest.approx(-(p * np.log(p)).sum(), abs=1e-4)
    assert [rows[0]["class_2"], rows[0]["class_3"]] == [service.class_names[i] for i in np.argsort(-p)[1:3]]


def test_every_kind_of_upload_gets_its_own_answer(client, tmp_path):
    kinds = uploads()
    assert len(kinds) >= 25
    files = []
    for name, (content, _) in kinds.items():
        (tmp_path / name).write_bytes(content)
        files.append(handle_file(str(tmp_path / name)))
    table, summary, _ = client.predict(None, files, 1, api_name="/predict")
    assert len(table["data"]) == len(kinds)
    for (name, (_, reason)), row in zip(kinds.items(), table["data"]):
        if reason is None:
            assert row[1] != "—" and row[2].endswith("%"), (name, row)
        else:
            assert row[1] == "—" and row[2] == "" and reason in row[5] and row[5], (name, row)
            assert "Traceback" not in row[5] and "/" not in row[5].replace("HTML, XML", ""), row
    bad = sum(reason is not None for _, reason in kinds.values())
    assert f"{len(kinds) - bad} of {len(kinds)} files" in summary and f"{bad} can't be used" in summary


@pytest.mark.parametrize("name", ["page.jpg", "drawing.svg", "truncated.jpg", "bomb.png", "empty.png"])
def test_one_bad_image_gets_a_sentence(client, tmp_path, name):
    (tmp_path / name).write_bytes(uploads()[name][0])
    _, summary, _ = client.predict(handle_file(str(tmp_path / name)), None, 1, api_name="/predict")
    assert "can't be used" in summary and "Traceback" not in summary
    for arguments in ((handle_file(str(tmp_path / name)),),):
        with pytest.raises(Exception, match="can't be used: ") as caught:
            client.predict(*arguments, api_name="/explain")
        assert "Traceback" not in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_nothing_chosen_gets_a_sentence(client):
    with pytest.raises(Exception, match="Choose an image"):
        client.predict(None, None, 3, api_name="/predict")
    with pytest.raises(Exception, match="Choose an image"):
        client.predict(None, api_name="/explain")


def test_attention_topic_opacity_class(client, served, image):
    label, topics, overlay, gradcam, gallery, words, download = client.predict(handle_file(image), api_name="/explain")
    assert chosen(label) in served[1].class_names and len(topics["choices"]) == 1 + 3 and gallery == []  # two say nothing
    assert "Driven most by the topics" in words
    assert pixels(overlay).shape == (448, 448, 3) and pixels(chosen(download)).shape[1] == 3 * 448 + 16
    names = [choice[0] for choice in topics["choices"]][1:]
    drawn = [client.predict(chosen(label), name, 0.9, api_name="/draw") for name in names[:3]]
    different = [i for i in range(1, 3) if (pixels(drawn[i][0]) != pixels(drawn[0][0])).any()]
    assert different, "every topic has the same picture"
    assert len(drawn[0][2]) == 8 and drawn[0][2][0]["caption"] in served[1].class_names
    flat = client.predict(chosen(label), names[0], 0.0, api_name="/draw")
    assert (pixels(flat[0]) == pixels(flat[1])).all()  # no overlay: both are the image
    other = next(name for name in served[1].class_names if name != chosen(label))
    listed, *_ = client.predict(other, 0.6, api_name="/choose_class")
    assert listed["value"] == topics["choices"][0][0] and all("drive +" in c[0] for c in listed["choices"][1:])
    listed, *shown = client.predict(other, 4, 0.6, api_name="/any_topic")
    assert listed["value"].startswith("topic 4 ") and "Topic 4 responds" in shown[3]
    with pytest.raises(Exception, match="from 0 to 4"):
        client.predict(other, 99, 0.6, api_name="/any_topic")


def test_drawing_before_explaining_gets_a_sentence(client, served):
    with pytest.raises(Exception, match="Explain an image first"):
        client.predict(served[1].class_names[0], 0.5, api_name="/choose_class")


def test_model_and_compare(client, served, image):
    model = client.predict(api_name="/model")
    assert model["class_names"] == served[1].class_names and model["scores"]["mean_entropy"] == 1.25
    assert model["shared_classes"] == served[1].class_names[:10] and model["classes"][0]["accuracy"] == 0.75
    table, left, right, words = client.predict(handle_file(image), "plain", api_name="/compare")
    assert [row[0] for row in table["data"]] == ["this run (isra)", "plain"]
    assert words.startswith(("Both runs agree", "The runs disagree"))
    assert (pixels(left) != pixels(right)).any()
    with pytest.raises(Exception, match="list of choices|Choose the other run"):
        client.predict(handle_file(image), "../../etc", api_name="/compare")


def test_example_and_flag(client, served, image, monkeypatch):
    example = client.predict(api_name="/example")
    assert pixels(example).shape == (32, 32, 3)
    flags = served[3]
    said = client.predict(handle_file(image), "7", api_name="/flag")
    line = json.loads((flags / "flags.jsonl").read_text().splitlines()[-1])
    assert line["right_class"] == "7" and line["file"] == "glyph.png" and "Kept as" in said
    assert (pixels(flags / line["image"]) == pixels(image)).all()
    with pytest.raises(Exception):
        client.predict(handle_file(image), "no such class", api_name="/flag")
    monkeypatch.setattr(storage, "MOST_FLAGS", 1)
    with pytest.raises(Exception, match="Not kept: enough"):
        client.predict(handle_file(image), "7", api_name="/flag")


ENDPOINTS = {
    "predict": lambda file: [file, None, 1], "predict ": lambda file: [None, [file], 1], "explain": lambda file: [file, 0.0],
    "flag": lambda file: [file, "7"], "compare": lambda file: [file, "plain"], "choose_class": lambda file: ["7", file],
}  # fmt: skip
META = {"meta": {"_type": "gradio.FileData"}}  # gradio looks at what is marked so; nobody has to mark it


def asked(url, name, data):
    """What an endpoint answers to data sent by hand."""
    import httpx

    call = f"{url}gradio_api/call/{name.strip()}"
    event = httpx.post(call, json={"data": data}).json()["event_id"]
    return httpx.get(f"{call}/{event}", timeout=30).text


@pytest.mark.parametrize("meta", [{}, META], ids=["bare", "marked"])
@pytest.mark.parametrize("name", ENDPOINTS)
def test_files_outside_are_refused(served, image, name, meta, tmp_path):
    """A path that was never uploaded, sent by hand: a picture, a link to it where uploads are, and what is no picture."""
    url, _, files, flags = served
    link = files.new("link.png")
    link.symlink_to(image)
    kept = len(list(flags.glob("images/*")))
    relative = f"{files.folder}/../{os.path.relpath(image, files.folder.parent)}"
    for path in (image, str(link), relative, "/etc/hostname", "/etc/nothing", str(tmp_path)):
        answer = asked(url, name, ENDPOINTS[name]({"path": path, **meta}))
        assert "event: error" in answer and "Upload the image first" in answer and "event: complete" not in answer, path
    assert len(list(flags.glob("images/*"))) == kept


def test_uploads_and_examples_sent_by_hand_are_taken(served, image):
    """As the page sends them."""
    import httpx

    (example,) = json.loads(asked(served[0], "example", []).split("data: ")[1])
    assert "event: complete" in asked(served[0], "predict", [example, None, 1])
    with open(image, "rb") as file:
        (path,) = httpx.post(f"{served[0]}gradio_api/upload", files={"files": file}).json()
    assert "event: complete" in asked(served[0], "predict", [{"path": path, **META}, None, 1])


@pytest.mark.parametrize("name", ["vibe-check.png", "process_recording.png", "http:photo.png", "gradio_api file=.png"])
def test_an_upload_is_shown_whatever_its_name(served, image, name):
    """The page could not fetch the preview of a "vibe-check.png"."""
    import httpx

    with open(image, "rb") as file:
        (path,) = httpx.post(f"{served[0]}gradio_api/upload", files={"files": (name, file)}).json()
    answer = httpx.get(f"{served[0]}gradio_api/file={path}")
    assert answer.status_code == 200 and answer.content == open(image, "rb").read()


@pytest.mark.parametrize("meta", [{}, META], ids=["bare", "marked"])
@pytest.mark.parametrize("name", ENDPOINTS)
def test_addresses_are_not_asked_for(served, monkeypatch, name, meta):
    """They were fetched, of any size, before anything looked at them."""
    import gradio

    fetched = []
    monkeypatch.setattr(gradio.processing_utils, "async_ssrf_protected_get", lambda address: fetched.append(address))
    for address in ("http://example.org/x.png", "https://example.org/y.png"):
        answer = asked(served[0], name, ENDPOINTS[name]({"path": address, "url": address, **meta}))
        assert "event: error" in answer and "Upload the image first" in answer
    assert fetched == []


def test_the_server_is_no_proxy(served, monkeypatch):
    """gradio's /file= takes addresses too."""
    import httpx
    import safehttpx

    validated = []
    monkeypatch.setattr(safehttpx, "async_validate_url", lambda host: validated.append(host))
    for start in ("gradio_api/file=", "gradio_api/file/", "gradio_api/proxy="):
        for address in ("http://example.org/x.png", "https%3A%2F%2Fexample.org/x.png", "HTTP://example.org/x.png"):
            assert httpx.get(f"{served[0]}{start}{address}").status_code in (403, 404)
    for refused in ("process_recording", "vibe-edit"):
        assert httpx.post(f"{served[0]}gradio_api/{refused}", json={}).status_code in (403, 404)
    for path in ("/etc/hostname", str(served[1].folder / "config.json")):
        assert httpx.get(f"{served[0]}gradio_api/file={path}").status_code in (403, 404)
    assert validated == [] and httpx.post(f"{served[0]}gradio_api/run-history/connect", json={}).status_code in (403, 404)
