"""The page's server, and the page in a browser: strokes in, pictures out."""

import base64
import io
import json
import shutil
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

import hfsgm_jax
from hfsgm_jax.demo.server import Demo, make_server
from hfsgm_jax.errors import UserError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def demo(run_folder):
    return Demo(hfsgm_jax.load(run_folder), "tiny")


@pytest.fixture(scope="module")
def address(demo):
    server = make_server(demo, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()


def picture(url):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def post(address, name, body, **headers):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(address + name, body, headers, method="POST")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def test_a_set_becomes_new_images(demo):
    drawings = demo.character(1)["images"]
    assert len(drawings) == 5 and picture(drawings[0]).shape == (28, 28)
    one = demo.generate(drawings[:1], num=9)
    assert len(one["frames"]) == 1 and len(one["frames"][0]) == 9 and picture(one["frames"][0][0]).shape == (28, 28)
    assert demo.generate(drawings[:1], num=9) == one != demo.generate(drawings[:1], num=9, seed=1)
    film = demo.generate(drawings, num=2, mode="refined")
    assert len(film["frames"]) == 9 and all(sum(weights) == pytest.approx(1) for weights in film["attention"].values())


def test_two_sets(demo):
    sets = [demo.character(1)["images"], demo.character(2)["images"][:2]]
    found = demo.compare(sets, sets[0][0])
    assert sum(found["probability"]) == pytest.approx(1) and max(found["log_p"]) < 0
    # Of each set alone the same: padding and the other set change nothing.
    assert demo.compare(sets[:1], sets[0][0])["log_p"] == pytest.approx(found["log_p"][:1], rel=1e-4)
    rows = demo.between(sets)["rows"]
    assert (len(rows), len(rows[0])) == (3, 9) and rows[0][0] != rows[0][-1]


def test_bad_input_is_answered_with_a_sentence(demo, address):
    drawings = demo.character(1)["images"]
    for name, body, message in [
        ("generate", {"images": []}, "no images were given"),
        ("generate", {"images": drawings + drawings[:1]}, "a set is 5 images at most"),
        ("generate", {"images": drawings[:1], "num": 1e9}, "an answer is 32 images at most"),
        ("generate", {"images": ["data:image/png;base64,AAAA"]}, "a picture cannot be read: broken"),
        ("read", {"images": [blank()]}, "no strokes are seen"),
        ("between", {"sets": [drawings]}, "draw in both sets first"),
        ("_images", {}, "there is nothing called"),
        ("generate", {}, "missing 1 required positional argument: 'images'"),
        ("generate", b'{"images": [], "seed": [[', "JSONDecodeError"),
        ("nothing", {}, "no attribute 'nothing'"),
    ]:
        with pytest.raises(urllib.error.HTTPError) as error:
            post(address, name, body)
        assert error.value.code == 400 and message in json.load(error.value)["error"]
    with pytest.raises(urllib.error.HTTPError, match="400"):
        post(address, "info", {}, **{"Content-Length": str(2**30)})


def blank():
    file = io.BytesIO()
    Image.new("RGBA", (50, 50)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def test_models_without_sets_are_refused(tiny_vae):
    with pytest.raises(UserError, match="'vae' has no latents that a set shares"):
        Demo(hfsgm_jax.FewShotModel(tiny_vae[0], {}), "vae")


@pytest.mark.parametrize("width", [1200, 390])
def test_in_a_browser(address, width, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[browser]'")
    if CHROMIUM is None:
        pytest.skip("needs Chromium, by the name chromium, chromium-browser or google-chrome")
    drawing = tmp_path / "drawing.png"
    Image.fromarray(np.kron(255 - 255 * np.eye(3, dtype=np.uint8), np.ones((9, 9), np.uint8))).save(drawing)
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900}, has_touch=width < 500)
        touch = page.context.new_cdp_session(page)
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#set-1 canvas")

        def stroke(selector, points):
            box = page.locator(selector).bounding_box()
            place = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
            if width < 500:
                for kind, points in [("Start", place[:1]), *(("Move", [p]) for p in place[1:]), ("End", [])]:
                    points = [dict(x=x, y=y) for x, y in points]
                    touch.send("Input.dispatchTouchEvent", dict(type=f"touch{kind}", touchPoints=points))
                return
            page.mouse.move(*place[0])
            page.mouse.down()
            for x, y in place[1:]:
                page.mouse.move(x, y, steps=5)
            page.mouse.up()

        def images(where):
            page.wait_for_selector(f"{where} img", timeout=120_000)
            return page.eval_on_selector_all(f"{where} img", "found => found.map(x => x.src)")

        page.locator("#set-0 canvas").first.scroll_into_view_if_needed()
        stroke("#set-0 canvas >> nth=0", [(0.3, 0.2), (0.3, 0.8), (0.7, 0.8)])
        first = images("#new-0")
        assert len(first) == 16 and len(set(first)) > 1 and page.locator("#state").inner_text().startswith("16 new")
        page.locator("#set-1 canvas").first.scroll_into_view_if_needed()
        stroke("#set-1 canvas >> nth=0", [(0.2, 0.3), (0.8, 0.3), (0.5, 0.8), (0.2, 0.3)])
        assert images("#new-1") != first
        page.locator("#query canvas").scroll_into_view_if_needed()
        stroke("#query canvas", [(0.3, 0.2), (0.3, 0.8), (0.6, 0.8)])
        page.wait_for_selector("#answer .bar", timeout=120_000)
        assert "log p(image | set)" in page.locator("#answer").inner_text()
        # By the keyboard: the first sheet is cleared, and its images go.
        page.locator("#set-0 canvas").first.focus()
        page.keyboard.press("Delete")
        page.wait_for_selector("#new-0 img", state="detached")
        page.wait_for_function("document.querySelectorAll('#answer .bar').length == 1")  # of the second set
        # Six pictures, one too many, and a film of what the model makes of the five.
        page.locator("#mode").select_option("refined")
        page.locator("#set-0 input").set_input_files([drawing] * 6)
        page.wait_for_selector("#state:has-text('A set holds 5 pictures: 1 more was left out.')", timeout=120_000)
        frame = images("#new-0")
        page.wait_for_function("x => document.querySelector('#new-0 img').src != x", arg=frame[0])
        for control in page.locator("canvas, button, input, select").all():
            name = control.evaluate("x => x.ariaLabel || x.textContent || x.labels?.[0]?.textContent")
            assert name.strip(), control.evaluate("x => x.outerHTML")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # nothing beyond the edge
        assert not problems
        browser.close()
