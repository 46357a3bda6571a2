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
    page = np.asarray(pictures.grid([pictures.blank(images, mask)], scale=2))
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


def test_one_channel_that_is_mostly_light_is_no_drawing():
    photograph = np.full((1, 1, 4, 4, 1), 0.4)
    page = np.asarray(pictures.grid([photograph], scale=1))
    assert (page[pictures.MARGIN + 1, pictures.MARGIN + 1] == 102).all()


def traced_only(draw):
    """`pictures._draw_samples` without its values: the samplers have tests of their own."""

    def shapes(model, *args):
        found = jax.eval_shape(lambda *args: draw(model, *args), *args)
        return jax.tree.map(lambda x: np.full(x.shape, 127, np.uint8), found)

    return shapes


def test_sample_grids_of_a_training_run(tiny, tiny_vae, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "_draw_samples", traced_only(pictures._draw_samples))
    images = (np.random.default_rng(0).uniform(size=(10, 2, 28, 28, 1)) < 0.3).astype(np.float32)
    write = lambda run, folder: pictures.write_sample_grids(*run, Sets.of(images), jax.random.key(0), folder, 120)
    paths = write(tiny, tmp_path / "samples")
    kinds = {path.name for path in paths}
    expected = ("context", "reconstruction", "conditional", "refined", "unconditional")
    assert kinds == {f"00000120_{kind}.png" for kind in expected} == {p.name for p in (tmp_path / "samples").iterdir()}
    sizes = {path.name[9:-4]: Image.open(path).size for path in paths}
    assert len({height for _, height in sizes.values()}) == 1  # eight rows each
    assert sizes["context"][0] < sizes["reconstruction"][0] < sizes["conditional"][0] == sizes["refined"][0]
    kinds = [path.stem[9:] for path in write(tiny_vae, tmp_path / "vae")]
    assert kinds == ["context", "reconstruction", "unconditional"]
