"""Comparison of drawings made on the demo's page with the data's own images: results/redrawn, a table in docs/guide.md.

python -m scripts.redrawn [MODEL [EPISODES]]   # without a model, the table alone

Every test drawing of Omniglot is drawn again as the page draws: its strokes, thinned to lines, with the page's pen on
the page's sheet of 420 pixels, sent as a picture. Classes are then named (20-way 1-shot) with supports and queries of
either kind. Needs Omniglot.
"""

import json
import sys

import numpy as np
from PIL import Image, ImageDraw

import hfsgm_jax
from hfsgm_jax.data import load_dataset
from hfsgm_jax.data.resize import resize_images
from hfsgm_jax.evaluation.tables import Table, markdown, number
from hfsgm_jax.images import SHEET, read_images
from scripts import readme
from scripts.machine import machine, write
from scripts.results import RESULTS

FOUND = RESULTS / "redrawn" / "results.json"
SIDE, PEN = 420, 4.8 / 105 * 420  # of the page
WAYS = 20
CLOCKWISE = (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1)  # neighbours, from above


def thinned(ink: np.ndarray) -> np.ndarray:
    """The middle lines of strokes, one pixel wide (Zhang and Suen 1984): ``[H, W]`` bool -> the same."""
    ink = np.pad(ink, 1)
    while True:
        before = ink.sum()
        for first in (True, False):
            p = [np.roll(ink, shift, (0, 1)) for shift in CLOCKWISE]
            count, turns = sum(p), sum(~a & b for a, b in zip(p, p[1:] + p[:1]))
            n, e, s, w = p[0], p[2], p[4], p[6]
            free = ~(n & e & s) & ~(e & s & w) if first else ~(n & e & w) & ~(n & s & w)
            ink = ink & ~((count >= 2) & (count <= 6) & (turns == 1) & free)
        if ink.sum() == before:
            return ink[1:-1, 1:-1]


def redraw(ink: np.ndarray) -> Image.Image:
    """A drawing ``[105, 105]`` bool as the page would send it, had its strokes been drawn there."""
    line, scale = thinned(ink), SIDE / SHEET
    page, place = Image.new("L", (SIDE, SIDE), 255), lambda y, x: ((x + 0.5) * scale, (y + 0.5) * scale)
    pen = ImageDraw.Draw(page)
    for y, x in np.argwhere(line):
        (a, b), r = place(y, x), PEN / 2
        pen.ellipse((a - r, b - r, a + r, b + r), fill=0)
        for v, u in ((y, x + 1), (y + 1, x - 1), (y + 1, x), (y + 1, x + 1)):
            if v < SHEET and 0 <= u < SHEET and line[v, u]:
                pen.line((place(y, x), place(v, u)), fill=0, width=round(PEN))
    return page


def test_drawings() -> list[np.ndarray]:
    """The raw test drawings, ``[n, 105, 105]`` bool of each class."""
    config = hfsgm_jax.default_config("scha_vae")
    config.data.update(source="omniglot", split="back_eval", resize="box", image_size=SHEET)
    dataset = load_dataset(config.data, "test")
    images = np.asarray(dataset.images)[..., 0] > 127
    return [images[start : start + size] for start, size in zip(dataset.start, dataset.size)]


def measure(model: str, episodes: str = "10") -> None:
    few, rng = hfsgm_jax.load(model), np.random.default_rng(0)
    right = {f"{a} shown, {b} named": [] for a in ("data", "redrawn") for b in ("data", "redrawn")}
    raw = test_drawings()
    for episode in range(int(episodes)):
        classes = rng.choice(len(raw), WAYS, replace=False)
        pairs = [raw[c][rng.choice(len(raw[c]), 2, replace=False)] for c in classes]  # one to show, one to name
        sides = {}
        for side, ink in zip(("shown", "named"), np.swapaxes(pairs, 0, 1)):
            sides["data", side] = resize_images(255 * ink[..., None].astype(np.uint8), few.drawings, 28, 1) / 255
            sides["redrawn", side] = read_images([redraw(x) for x in ink], few.image_shape, few.drawings)
        for key in right:
            a, b = (part.split()[0] for part in key.split(", "))
            supports = {str(i): x[None] for i, x in enumerate(sides[a, "shown"])}
            labels, _ = few.classify(supports, sides[b, "named"], num_samples=4, num_samples_z=2)
            right[key].append(float(np.mean([label == str(i) for i, label in enumerate(labels)])))
        print(episode, {key: round(float(np.mean(values)), 3) for key, values in right.items()}, flush=True)
    own = np.array(right["data shown, data named"])
    error = lambda x: float(np.std(x, ddof=1) / np.sqrt(len(x)))
    found = {}
    for key, x in right.items():
        more = dict(increase=float(np.mean(x - own)), increase_error=error(x - own))  # over the data's own images
        found[key] = dict(value=float(np.mean(x)), standard_error=error(x)) | more
    content = dict(machine=machine(), model=model, ways=WAYS, shots=1, episodes=int(episodes), accuracy=found)
    write(content, FOUND)


def main(*arguments: str) -> None:
    if arguments:
        measure(*arguments)
    found = json.loads(FOUND.read_text())
    own = "{ways}-way {shots}-shot accuracy of `{model}`".format(**found)
    rows = [
        [*(part.split()[0] for part in key.split(", ")), number(x["value"], x["standard_error"])]
        + [number(x["increase"], x["increase_error"])]
        for key, x in found["accuracy"].items()
    ]
    head = ["images shown", "images named", own, "difference from the data's own"]
    readme.write("redrawn", markdown(Table(head, rows)))


if __name__ == "__main__":
    main(*sys.argv[1:])
