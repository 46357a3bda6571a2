"""Pictures: grids of the right size and colours, and those of a training run."""

import jax
import numpy as np
from PIL import Image

from hfsgm_jax.evaluation import pictures
from hfsgm_jax.trace import Sets


def test_grid_has_gutters_ink_and_empty_places():
    images = np.zeros((2, 3, 4, 4, 1))
    images[0, 0] = 1
    mask = np.ones((2, 3), bool)
    mask[1, 2] = False
    page = np.asarray(pictures.grid([images], masks=[mask], scale=2))
    height, width = 2 * (4 + 1) * 2 + 2, 3 * (4 + 1) * 2 + 2
    assert page.shape == (height + 2 * pictures.MARGIN, width + 2 * pictures.MARGIN, 3)
    inside = page[pictures.MARGIN : -pictures.MARGIN, pictures.MARGIN : -pictures.MARGIN, 0]
    assert inside.shape == (height, width)
    assert (inside[2:10, 2:10] == 0).all()  # ink
    assert (inside[2:10, 12:20] == 255).all()  # no ink
    assert (inside[:2] == pictures.GUTTER).all() and (inside[:, 10:12] == pictures.GUTTER).all()
    assert (inside[12:20, 22:30] == pictures.PAGE).all()  # nothing there


def test_colours_stay_as_they_are():
    images = np.broadcast_to(np.array([1.0, 0.5, 0.0]), (1, 1, 2, 2, 3))
    page = np.asarray(pictures.grid([images], scale=1))
    assert (page[pictures.MARGIN + 1, pictures.MARGIN + 1] == [255, 128, 0]).all()


def test_titles_widen_narrow_blocks():
    narrow = pictures.grid([np.zeros((1, 1, 4, 4, 1))], scale=1)
    titled = pictures.grid([np.zeros((1, 1, 4, 4, 1))], ["a long title of one small image"], scale=1)
    assert titled.width > narrow.width and titled.height > narrow.height


def test_frames_say_right_or_wrong():
    right = np.array([[True, False]])
    page = np.asarray(pictures.grid([np.ones((1, 2, 4, 4, 1))] * 2, frames=[right, None], scale=2))
    inside = page[pictures.MARGIN : -pictures.MARGIN, pictures.MARGIN : -pictures.MARGIN]
    frame, ink = inside[2:4, 2:14], inside[4:12, 4:12]
    assert (frame == pictures.RIGHT).all() and (ink == 0).all()
    assert (inside[2:4, 16:28] == pictures.WRONG).all()
    assert inside.shape == (2 + 14, 2 * (2 * 14 + 2) + pictures.MARGIN, 3)  # the block without frames is as high
    assert (inside[2:4, 40:52] == pictures.PAGE).all()


def test_an_animation_has_all_pages(tmp_path):
    levels = [0.0, 0.5, 1.0]
    pages = [pictures.grid([np.full((1, 1, 8, 8, 1), level)]) for level in levels]
    movie = Image.open(pictures.animate(pages, tmp_path / "new" / "film.gif", milliseconds=100, pause=700))
    assert movie.n_frames == 3 and movie.info["loop"] == 0
    for frame, (level, duration) in enumerate(zip(levels, (100, 100, 700), strict=True)):
        movie.seek(frame)
        assert movie.info["duration"] == duration
        middle = np.asarray(movie.convert("L"))[pictures.MARGIN + 8, pictures.MARGIN + 8]
        assert abs(int(middle) - 255 * (1 - level)) <= 4
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["film.gif"]


def test_sample_grids_of_a_training_run(tiny, tmp_path, monkeypatch):
    draw = pictures._draw_samples

    def traced_only(model, *args):  # the samplers have tests of their own; this one is of files
        shapes = jax.eval_shape(lambda v, sets, key: draw(model, v, sets, key, *args[3:]), *args[:3])
        return jax.tree.map(lambda x: np.full(x.shape, 127, np.uint8), shapes)

    monkeypatch.setattr(pictures, "_draw_samples", traced_only)
    images = (np.random.default_rng(0).uniform(size=(10, 2, 28, 28, 1)) < 0.3).astype(np.float32)
    paths = pictures.write_sample_grids(*tiny, Sets.of(images), jax.random.key(0), tmp_path / "samples", 120)
    kinds = {path.name for path in paths}
    expected = ("context", "reconstruction", "conditional", "refined", "unconditional")
    assert kinds == {f"00000120_{kind}.png" for kind in expected} == {p.name for p in (tmp_path / "samples").iterdir()}
    sizes = {path.name[9:-4]: Image.open(path).size for path in paths}
    assert len({height for _, height in sizes.values()}) == 1  # eight rows each
    assert sizes["context"][0] < sizes["reconstruction"][0] < sizes["conditional"][0] == sizes["refined"][0]


def test_a_model_without_context_has_fewer_kinds(tiny_vae):
    _, model, variables = tiny_vae
    draw = lambda v, sets, key: pictures._draw_samples(model, v, sets, key, 2, 3)  # noqa: E731
    out = jax.eval_shape(draw, variables, Sets.of(np.zeros((2, 1, 28, 28, 1), np.float32)), jax.random.key(0))
    assert {kind: x.shape[:2] for kind, x in out.items()} == {"reconstruction": (2, 1), "unconditional": (2, 2)}
