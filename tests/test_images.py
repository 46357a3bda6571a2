"""Image files at the border of a model: every form a user has is converted, or refused by name."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from hfsgm_jax.data import strokes
from hfsgm_jax.errors import DataError, UserError
from hfsgm_jax.images import STROKE, as_drawing, read_images

SHAPE = (28, 28, 1)


@pytest.fixture(scope="module")
def ink():
    """Drawings of Omniglot's pen, ``[n, 105, 105]`` uint8, light on dark."""
    return np.stack([255 * as_drawing(x).astype(np.uint8) for x in strokes.draw(12, 1, 105, seed=1)[:, 0, ..., 0]])


def width(drawing):
    edges = np.pad(drawing, 1)
    return 2 * drawing.sum() / sum(np.count_nonzero(np.diff(edges, axis=axis)) for axis in (0, 1))


FORMS = {
    "dark on light": lambda x: Image.fromarray(255 - x),
    "light on dark": Image.fromarray,
    "grey on grey": lambda x: Image.fromarray((80 + 0.4 * x).astype(np.uint8)),
    "large": lambda x: Image.fromarray(255 - x).resize((840, 840), Image.Resampling.BICUBIC),
    "blue on yellow": lambda x: Image.fromarray(
        np.where(x[..., None] > 0, [20, 20, 160], [250, 240, 150]).astype("u1")
    ),
    "blurred": lambda x: Image.fromarray(255 - x).resize((420, 420)).filter(ImageFilter.GaussianBlur(5)),
    "16 bit": lambda x: Image.fromarray(np.uint16(65535 - 257 * np.uint16(x))),
    "12 of 16 bit": lambda x: Image.fromarray(np.uint16(4095 - 16 * np.uint16(x))),
    "32 bit": lambda x: Image.fromarray(np.int32(x) * 7_000_000),
    "fractions": lambda x: Image.fromarray(np.float32(x) / 255 - 0.5),
    "white on nothing": lambda x: Image.merge("LA", [Image.new("L", (105, 105), 255), Image.fromarray(x)]),
    "alpha": lambda x: Image.merge("LA", [Image.new("L", (105, 105)), Image.fromarray(x)]),
    "thick pen": lambda x: Image.fromarray(255 - x).resize((420, 420)).filter(ImageFilter.MinFilter(15)),
    "thin pen": lambda x: Image.fromarray(255 - x).resize((420, 420)).filter(ImageFilter.MaxFilter(11)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("resize", ["gmn", "box"])
def test_every_form_of_a_drawing_becomes_the_same_image(ink, form, resize, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(len(ink))]
    for path, x in zip(paths, ink):
        FORMS[form](x).save(path, "TIFF" if form in ("32 bit", "fractions") else "PNG")
    images = read_images(paths, SHAPE, resize)
    assert images.shape == (len(ink), *SHAPE) and images.dtype == np.float32
    reference = read_images([Image.fromarray(x) for x in ink], SHAPE, "box")
    # Beside 0.08 of ink; an image drawn one pixel away differs by about 0.08.
    assert np.abs(read_images(paths, SHAPE, "box") - reference).mean() < 0.03
    assert set(np.unique(images)) <= {0, 1} or resize == "box"


@pytest.mark.parametrize("radius", [1, 3, 9, 21])
def test_pens_become_the_one_of_the_data(radius):
    line = np.zeros((420, 420), np.uint8)
    line[100:320, 200 - radius : 200 + radius] = 255
    assert abs(width(as_drawing(line)) - STROKE) < 1


def test_drawings_keep_the_size_that_the_data_have():
    small, large = (np.zeros((105, 105), np.uint8) for _ in range(2))
    small[42:62, 50:52], large[10:80, 40:44] = 255, 255
    assert as_drawing(large).any(1).sum() == pytest.approx(70, abs=3)
    assert as_drawing(small).any(1).sum() == pytest.approx(44, abs=3)  # the least


def test_files_of_the_models_size_are_kept():
    image = np.zeros((28, 28), np.uint8)
    image[4:20, 13] = 255
    for x in (image, 255 - image):
        np.testing.assert_array_equal(read_images([Image.fromarray(x)], SHAPE, "gmn")[0, ..., 0], image / 255)


def test_ink_becomes_light_and_keeps_its_size(ink):
    light, dark = ([Image.fromarray(x) for x in images] for images in (ink, 255 - ink))
    found = read_images(dark, SHAPE, "ink")
    assert np.abs(found - read_images(light, SHAPE, "ink")).mean() < 0.002  # rounded the other way
    np.testing.assert_allclose(found, read_images(light, SHAPE), atol=0.11)  # what is fainter is no ink


def test_pictures_are_averaged_squares(tmp_path):
    colours = np.zeros((40, 60, 3), np.uint8)
    colours[:, 10:50] = [255, 0, 51]
    Image.fromarray(colours).save(tmp_path / "x.png")
    images = read_images([tmp_path / "x.png"], (8, 8, 3))
    np.testing.assert_allclose(images[0], np.broadcast_to([1, 0, 0.2], (8, 8, 3)), atol=1e-6)


def test_what_cannot_be_read_is_named(tmp_path):
    Image.new("L", (50, 50), 200).save(tmp_path / "blank.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(UserError, match="blank.png: no strokes are seen"):
        read_images([tmp_path / "blank.png"], SHAPE, "gmn")
    with pytest.raises(DataError, match="text.png .*cannot identify"):
        read_images([tmp_path / "text.png"], SHAPE, "gmn")
    with pytest.raises(UserError, match="no images were given"):
        read_images([], SHAPE)
