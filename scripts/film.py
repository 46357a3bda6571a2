"""Draws with a browser on the page of `hfsgm-jax demo`, films it (docs/demo.gif) and times its answers (docs/guide.md).

python -m scripts.film [MODEL]   # needs the extra `browser` and Chromium; waiting for the model is left out of the film
"""

import io
import itertools
import shutil
import sys
import threading
import time
from collections.abc import Sequence

import numpy as np
from PIL import Image
from playwright import sync_api

import hfsgm_jax
from hfsgm_jax.demo.server import Demo, make_server, warm_up
from scripts import readme
from scripts.machine import ROOT, machine, write

FILM, TIMES = ROOT / "docs" / "demo.gif", ROOT / "results" / "page" / "results.json"
VIEW, WIDTH, MILLISECONDS, COLORS = {"width": 1080, "height": 1060}, 720, 110, 48
Point = tuple[float, float]
# Two made-up characters, strokes of points in a sheet of side 1; the second sheet of a set is drawn a little otherwise.
HOOK = [(0.3, 0.15), (0.32, 0.8), (0.7, 0.78), (0.72, 0.5)], [(0.15, 0.45), (0.55, 0.4)]
FORK = [(0.2, 0.2), (0.25, 0.5), (0.75, 0.5), (0.8, 0.2)], [(0.5, 0.5), (0.48, 0.85)], [(0.35, 0.85), (0.65, 0.83)]


def jittered(strokes: Sequence[Sequence[Point]], seed: int) -> list[list[Point]]:
    """The character by a slightly different hand."""
    rng = np.random.default_rng(seed)
    shift = rng.normal(0, 0.03, 2)
    return [[tuple(np.clip(p + shift + rng.normal(0, 0.02, 2), 0.08, 0.92)) for p in stroke] for stroke in strokes]


def film(model: str) -> tuple[list[Image.Image], float, list[float]]:
    """The frames, at intervals of `MILLISECONDS`; seconds until the page opens, and from each stroke to new images."""
    began = time.monotonic()
    demo = Demo(hfsgm_jax.load(model), model)
    server = make_server(demo, "127.0.0.1", 0)
    warm_up(demo)
    opened = time.monotonic() - began
    threading.Thread(target=server.serve_forever, daemon=True).start()
    frames = []
    with sync_api.sync_playwright() as play:
        found = shutil.which("chromium") or shutil.which("google-chrome")
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page(viewport=VIEW)
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
        page.wait_for_selector("#set-1 canvas")

        def shoot(times: int = 1) -> None:
            image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            size = WIDTH, round(WIDTH * image.height / image.width)
            frames.extend([image.resize(size, Image.Resampling.LANCZOS)] * times)

        def draw(selector: str, strokes: Sequence[Sequence[Point]]) -> None:
            box = page.locator(selector).bounding_box()
            place = lambda p: (box["x"] + p[0] * box["width"], box["y"] + p[1] * box["height"])
            for stroke in strokes:
                page.mouse.move(*place(stroke[0]))
                page.mouse.down()
                for start, end in itertools.pairwise(stroke):
                    for part in np.linspace(0, 1, 4)[1:]:
                        page.mouse.move(*place(np.array(start) + part * np.subtract(end, start)))
                        shoot()
                page.mouse.up()

        def settle() -> None:
            page.wait_for_function("!document.querySelector('#state').innerText.endsWith('…')", timeout=120_000)
            page.wait_for_timeout(1500)

        shoot(4)
        for sheet, (selector, strokes) in enumerate((f"#set-{s}", x) for s, x in ((0, HOOK), (0, HOOK), (1, FORK))):
            draw(f"{selector} canvas >> nth={sheet % 2}", jittered(strokes, sheet))
            settle()
            shoot(6)
        page.locator("#query canvas").scroll_into_view_if_needed()
        draw("#query canvas", jittered(FORK, 7))
        page.wait_for_selector("#answer .bar", timeout=120_000)
        settle()
        page.locator("#answer").scroll_into_view_if_needed()
        shoot(16)
        answers = "performance.getEntriesByType('resource').filter(x => x.name.endsWith('/generate'))"
        waits = [milliseconds / 1000 for milliseconds in page.evaluate(f"{answers}.map(x => x.duration)")]
        browser.close()
    server.shutdown()
    return frames, opened, waits


def main(model: str = "omniglot") -> None:
    frames, opened, waits = film(model)
    times = dict(machine=machine(), model=model, seconds_until_open=opened, seconds_until_images=waits)
    write(times, TIMES)
    cores = "{cpu}, cores: {cores}".format(**times["machine"])
    text = f"16 new images by `{model}` come {waits[0]:.2f} s after the first stroke and at most {max(waits[1:]):.2f} s"
    rest = f"after later ones; the page opens\n{opened:.0f} s after the start, with all programs compiled ({cores})."
    readme.write("page", f"{text} {rest}")
    # One palette, so that the file holds only what changes.
    palette = frames[-1].quantize(COLORS)
    first, *others = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    first.save(FILM, save_all=True, append_images=others, duration=MILLISECONDS, loop=0, optimize=True)
    print(f"{FILM}: {len(frames)} frames, {FILM.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
