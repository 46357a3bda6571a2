"""The page's server, of Python's own library: it listens on this machine alone unless told otherwise."""

import base64
import contextlib
import io
import json
import threading
import time
import traceback
import webbrowser
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from hfsgm_jax import api
from hfsgm_jax.data.resize import resize_images
from hfsgm_jax.demo import play
from hfsgm_jax.errors import UserError
from hfsgm_jax.images import SHEET
from hfsgm_jax.trace import Sets

PAGE = Path(__file__).with_name("page.html")
CHARACTERS = PAGE.with_name("omniglot.png")  # omniglot.txt says which, and how they were chosen
SAMPLES = 8, 4  # of c, and of z given each, for a likelihood
MOST_NEW = 32  # images of an answer
MOST_BYTES = 64 * 2**20  # of a request


class Demo:
    """What the page can ask: every public method is a request, JSON in and out."""

    def __init__(self, few: api.FewShotModel, name: str):
        """Raises a UserError for a model without latents that a set shares."""
        if not few.model.shared_nodes:
            raise UserError(f"the model {few.name!r} has no latents that a set shares: the demo needs another")
        self._few, self._name, self._drawings = few, name, few.drawings is not None

    def info(self) -> dict[str, Any]:
        """What the page shows of the model."""
        return dict(name=self._name, shots=play.SHOTS, drawings=self._drawings)

    def read(self, images: list[str]) -> dict[str, Any]:
        """Uploaded pictures as the model sees them."""
        return {"images": self._encoded(self._images(images))}

    def character(self, seed: int) -> dict[str, Any]:
        """Five drawings of a character of Omniglot's evaluation set, resized as the model's training images were."""
        drawn = self._characters[seed % len(self._characters)]
        height, _, channels = self._few.image_shape
        resize = "gmn" if self._few.drawings == "gmn" else "box"
        return {"images": self._encoded(resize_images(drawn, resize, height, channels) / 255)}

    def generate(self, images: list[str], num: int = 16, mode: str = "conditional", temperature: float = 1.0, seed=0):
        """New images of a set, a frame of them per iteration of ``refined``; and what the model attends to."""
        if num > MOST_NEW:
            raise UserError(f"an answer is {MOST_NEW} images at most")
        context, factors = self._sets(images), api.temperatures(temperature)
        draw = play.refined if mode == "refined" else play.conditional
        keys = [jax.random.fold_in(jax.random.key(seed), i) for i in range(-(-num // play.AT_ONCE))]
        found = [self._few.compute(draw, context, key, temperature=factors) for key in keys]
        frames = np.concatenate(jax.device_get(found), 1)[:, :num]
        weights = jax.device_get(self._few.compute(play.attention, context))
        attention = {label: x[: len(images)].tolist() for label, x in weights.items()}
        return {"frames": [self._encoded(frame) for frame in frames], "attention": attention}

    def compare(self, sets: list[list[str]], query: str) -> dict[str, Any]:
        """log p(query | set) of one set or two, nats, and the probability of each of two."""
        two = self._sets(*[*sets, sets[0]][:2])  # the program takes two
        what = two, jnp.asarray(self._images([query])), jax.random.key(0)
        scores = self._few.compute(api.class_scores, *what, num_samples=SAMPLES[0], num_samples_z=SAMPLES[1])
        found = np.asarray(scores, float)[0, : len(sets)]
        odds = np.exp(found - found.max())
        return {"log_p": found.tolist(), "probability": (odds / odds.sum()).tolist()}

    def between(self, sets: list[list[str]], temperature: float = 1.0, seed: int = 0) -> dict[str, Any]:
        """Rows of images from one set to another."""
        if len(sets) != 2:
            raise UserError("draw in both sets first")
        ends, key = self._sets(*sets), jax.random.key(seed)
        rows = self._few.compute(play.between, ends, key, temperature=api.temperatures(temperature))
        return {"rows": [self._encoded(row) for row in np.asarray(rows)]}

    @cached_property
    def _characters(self) -> np.ndarray:
        """``[characters, play.SHOTS, SHEET, SHEET, 1]`` uint8, light on dark."""
        sheet = 255 - np.asarray(Image.open(CHARACTERS).convert("L"))
        return sheet.reshape(-1, SHEET, play.SHOTS, SHEET, 1).swapaxes(1, 2)

    def _images(self, texts: list[str]) -> np.ndarray:
        if len(texts) > play.SHOTS:
            raise UserError(f"a set is {play.SHOTS} images at most")
        files = [io.BytesIO(base64.b64decode(text.partition(",")[2])) for text in texts]  # of data:image/...;base64,
        try:
            return self._few.read([Image.open(file) for file in files])
        except OSError as error:  # of Pillow
            raise UserError("a picture cannot be read: broken, or of an unknown format: send PNG or JPEG") from error

    def _sets(self, *texts: list[str]) -> Sets:
        return api.ragged([self._images(of_set) for of_set in texts], play.SHOTS)

    def _encoded(self, images: np.ndarray) -> list[str]:
        """``[N, H, W, C]`` in [0, 1] -> URLs of PNGs; drawings as dark ink on white."""
        urls = []
        for shade in np.rint(255 * np.clip(1 - images if self._drawings else images, 0, 1)).astype(np.uint8):
            file = io.BytesIO()
            Image.fromarray(shade[..., 0] if shade.shape[-1] == 1 else shade).save(file, "PNG")
            urls.append("data:image/png;base64," + base64.b64encode(file.getvalue()).decode())
        return urls


def make_server(demo: Demo, host: str, port: int) -> ThreadingHTTPServer:
    """A server of the page and of the requests of ``demo``; port 0 takes a free one."""
    lock = threading.Lock()  # one drawing after another

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path != "/":
                return self._answer(404, b"no such page", "text/plain")
            self._answer(200, PAGE.read_bytes(), "text/html; charset=utf-8")

        def do_POST(self):
            status, began = 200, time.monotonic()
            try:
                found = self._call() | {"seconds": time.monotonic() - began}
            except UserError as error:
                status, found = 400, {"error": str(error)}
            except Exception as error:  # no request of the page, or no picture
                traceback.print_exc()
                status, found = 400, {"error": f"this cannot be answered: {type(error).__name__}: {error}"}
            self._answer(status, json.dumps(found).encode(), "application/json")

        def _call(self) -> dict[str, Any]:
            name, size = self.path.strip("/"), int(self.headers["Content-Length"])
            if name.startswith("_"):
                raise UserError(f"there is nothing called {name!r}")
            if not 0 <= size <= MOST_BYTES:
                raise UserError(f"{size / 2**20:.0f} MiB were sent: at most {MOST_BYTES >> 20} MiB are taken")
            request = json.loads(self.rfile.read(size))
            with lock:
                return getattr(demo, name)(**request)

        def _answer(self, status: int, body: bytes, kind: str):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def handle(self):
            with contextlib.suppress(ConnectionError):  # the page was closed before its answer
                super().handle()

        def log_message(self, *_):
            pass

    return ThreadingHTTPServer((host, port), Handler)


def warm_up(demo: Demo) -> None:
    """Compiles what a first drawing needs."""
    drawn = demo.character(0)["images"]
    demo.generate(drawn)
    demo.compare([drawn], drawn[0])


def warm_up_the_rest(demo: Demo) -> None:
    """Compiles the others."""
    drawn = demo.character(0)["images"]
    demo.between([drawn, drawn])
    demo.generate(drawn, mode="refined")


def serve(model: str, host: str = "127.0.0.1", port: int = 7860, browser: bool = True) -> None:
    """Serves the page until it is interrupted.

    Raises:
      UserError: no such model, or the port is taken.
    """
    demo = Demo(api.load(model), model)
    try:
        server = make_server(demo, host, port)
    except (OSError, OverflowError, UnicodeError) as error:
        raise UserError(f"cannot listen on {host}:{port} ({error}): choose another --port or --host") from None
    print("Compiling ...", end=" ", flush=True)
    warm_up(demo)
    address = f"http://{host}:{server.server_address[1]}/"
    print(f"draw at {address} (Ctrl-C ends it)", flush=True)
    threading.Thread(target=warm_up_the_rest, args=(demo,), daemon=True).start()
    if browser:
        webbrowser.open(address)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
