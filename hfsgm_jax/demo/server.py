"""The page's server, of Python's own library: it listens on this machine alone unless told otherwise."""

import base64
import contextlib
import inspect
import io
import json
import re
import reprlib
import sys
import threading
import time
import webbrowser
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hfsgm_jax import api
from hfsgm_jax.data.resize import resize_images
from hfsgm_jax.demo.play import MODES, SHOTS, Player
from hfsgm_jax.errors import UserError, check_choice
from hfsgm_jax.images import SHEET
from hfsgm_jax.keys import LARGEST

PAGE = Path(__file__).with_name("page.html")
CHARACTERS = PAGE.with_name("omniglot.png")  # omniglot.txt says which, and how they were chosen
MOST_NEW = 32  # images of an answer
MOST_BYTES = 64 * 2**20  # of a request
MOST_PIXELS = 4096**2  # of an uploaded picture
SECONDS = 20  # of silence, after which a request is given up


class Demo:
    """What the page can ask: every public method is a request, JSON in and out."""

    def __init__(self, few: api.FewShotModel, name: str):
        self.player, self.name, self._drawings = Player(few), name, few.drawings is not None
        self._lock = threading.Lock()  # one drawing after another

    def info(self) -> dict[str, Any]:
        """What the page shows of the model."""
        return dict(name=self.name, shots=SHOTS, drawings=self._drawings)

    def read(self, images: list[str]) -> dict[str, Any]:
        """Uploaded pictures as the model sees them."""
        return {"images": self._encoded(self._images(images))}

    def character(self, seed: int) -> dict[str, Any]:
        """Five drawings of a character of Omniglot's evaluation set, resized as the model's training images were."""
        if not self._drawings:
            raise UserError("this model has not learnt characters")
        drawn = self._characters[int(_within("seed", seed, 0, LARGEST)) % len(self._characters)]
        height, _, channels = self.player.few.image_shape
        resize = "gmn" if self.player.few.drawings == "gmn" else "box"
        return {"images": self._encoded(resize_images(drawn, resize, height, channels) / 255)}

    def generate(self, images: list[str], num: int = 16, mode: str = "conditional", temperature: float = 1.0, seed=0):
        """New images of a set, and what the model attends to."""
        check_choice("mode", mode, MODES)
        num, seed = _within("num", num, 1, MOST_NEW), _within("seed", seed, 0, LARGEST)
        temperature = _within("temperature", temperature, 0, 2)
        context = self._images(images)
        with self._lock:
            frames = self.player.new(context, int(num), mode, temperature, int(seed))
            attention = {label: weights.tolist() for label, weights in self.player.attention(context).items()}
        return {"frames": [self._encoded(frame) for frame in frames], "attention": attention}

    def compare(self, sets: list[list[str]], query: str) -> dict[str, Any]:
        """log p(query | set) of one set or two, nats, and the probability of each of two."""
        if not isinstance(sets, list) or not 1 <= len(sets) <= 2:
            raise UserError("one or two sets can be compared")
        contexts, queries = [self._images(images) for images in sets], self._images([query])
        with self._lock:
            found = self.player.log_likelihoods(contexts, queries)[0].astype(float)
        odds = np.exp(found - found.max())
        return {"log_p": found.tolist(), "probability": (odds / odds.sum()).tolist()}

    def between(self, sets: list[list[str]], temperature: float = 1.0, seed: int = 0) -> dict[str, Any]:
        """Rows of images from one set to another."""
        if not isinstance(sets, list) or len(sets) != 2:
            raise UserError("draw in both sets first")
        ends, seed = [self._images(images) for images in sets], _within("seed", seed, 0, LARGEST)
        temperature = _within("temperature", temperature, 0, 2)
        with self._lock:
            rows = self.player.between(*ends, temperature, int(seed))
        return {"rows": [self._encoded(row) for row in rows]}

    @cached_property
    def _characters(self) -> np.ndarray:
        """``[characters, SHOTS, SHEET, SHEET, 1]`` uint8, light on dark."""
        sheet = 255 - np.asarray(Image.open(CHARACTERS).convert("L"))
        return sheet.reshape(-1, SHEET, SHOTS, SHEET, 1).swapaxes(1, 2)

    def _images(self, texts: list[str]) -> np.ndarray:
        if not isinstance(texts, list) or not 1 <= len(texts) <= SHOTS:
            raise UserError(f"a set is 1 to {SHOTS} images")
        return self.player.few.read([_decoded(text) for text in texts])

    def _encoded(self, images: np.ndarray) -> list[str]:
        """``[N, H, W, C]`` in [0, 1] -> URLs of PNGs; drawings as dark ink on white."""
        urls = []
        for shade in np.rint(255 * np.clip(1 - images if self._drawings else images, 0, 1)).astype(np.uint8):
            file = io.BytesIO()
            Image.fromarray(shade[..., 0] if shade.shape[-1] == 1 else shade).save(file, "PNG")
            urls.append("data:image/png;base64," + base64.b64encode(file.getvalue()).decode())
        return urls


def _within(name: str, value: Any, low: float, high: float) -> float:
    if not isinstance(value, int | float) or not low <= value <= high:
        raise UserError(f"{name} is a number from {low} to {high}, not {reprlib.repr(value)}")
    return value


def _decoded(text: str) -> Image.Image:
    """A ``data:image/...;base64,`` URL -> its picture."""
    try:
        image = Image.open(io.BytesIO(base64.b64decode(text.partition(",")[2], validate=True)))
        if image.width * image.height > MOST_PIXELS:
            raise UserError(f"a picture of {image.width} x {image.height} pixels is too large: at most 4096 x 4096")
        image.load()
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds
        raise UserError(f"a picture cannot be read ({type(error).__name__}); PNG and JPEG can") from None
    return image


def make_server(demo: Demo, host: str, port: int) -> ThreadingHTTPServer:
    """A server of the page and of the requests of ``demo``; port 0 takes a free one."""

    class Handler(BaseHTTPRequestHandler):
        timeout = SECONDS

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
            self._answer(status, json.dumps(found).encode(), "application/json")

        def _call(self) -> dict[str, Any]:
            name, body = self.path.strip("/"), self._body()
            if name.startswith("_") or not callable(method := getattr(demo, name, None)):
                raise UserError(f"there is nothing called {name!r}")
            try:
                given = json.loads(body or b"{}")
            except (ValueError, RecursionError) as error:
                raise UserError(f"the request is not JSON ({error})") from None
            if not isinstance(given, dict):
                raise UserError("the request is a JSON object, {...}")
            try:
                inspect.signature(method).bind(**given)
            except TypeError as error:
                raise UserError(f"{name}: {error}") from None
            return method(**given)

        def _body(self) -> bytearray:
            """Read to its end even where it is too large, or the browser would not read the answer."""
            text, body, size = self.headers.get("Content-Length", "0"), bytearray(), 0
            length = int(text) if re.fullmatch("[0-9]{1,18}", text) else -1
            if length < 0:
                raise UserError(f"Content-Length is a number of bytes, not {reprlib.repr(text)}")
            with contextlib.suppress(TimeoutError):
                while size < length and (part := self.rfile.read(min(2**20, length - size))):
                    size += len(part)
                    body += part if size <= MOST_BYTES else b""
            if size < length:
                raise UserError(f"fewer bytes came than the {length} of Content-Length")
            if size > MOST_BYTES:
                raise UserError(f"{length / 2**20:.0f} MiB were sent: at most {MOST_BYTES >> 20} MiB are taken")
            return body

        def _answer(self, status: int, body: bytes, kind: str):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *client):
            if not isinstance(sys.exception(), ConnectionError):  # the page was closed before its answer
                super().handle_error(*client)

    return Server((host, port), Handler)


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
    demo.player.warm_up()
    address = f"http://{host}:{server.server_address[1]}/"
    print(f"draw at {address} (Ctrl-C ends it)", flush=True)
    threading.Thread(target=demo.player.warm_up_the_rest, daemon=True).start()
    if browser:
        webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
