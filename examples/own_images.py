"""From a folder of images to new images of classes that the model has never seen.

    python -m examples.own_images DIR --minutes=10       # DIR/cat/001.jpg  DIR/cat/002.png ...  DIR/dog/a.jpg ...
    python -m examples.own_images                        # draws a folder of imaginary characters first

from the root of the repository, or cell by cell in an editor that knows `# %%`. Dozens of classes with at least six
images each are the least that makes sense. Run again, it goes on with the training where it stopped.
"""

# %% Settings
import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import hfsgm_jax
from configs import own_images
from hfsgm_jax.data import load_dataset, strokes
from hfsgm_jax.evaluation import pictures
from hfsgm_jax.training import train

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("path", nargs="?", help="folder with one folder of images per class")
parser.add_argument("--workdir", default="runs/own_images", help="folder of the run")
parser.add_argument("--minutes", type=float, default=5.0, help="of training")
parser.add_argument("--drawings", action="store_true", help="light strokes on dark ground: one binary channel")
parser.add_argument("--quick", action="store_true", help="a few steps of a tiny model, to see that all works")
args = parser.parse_args([] if "ipykernel" in sys.modules else None)
workdir = Path(args.workdir)

# %% Images: without any, a folder of imaginary characters, chalk on a blackboard
if args.path is None:
    args.path, args.drawings = str(workdir / "images"), True
    characters = strokes.draw(num_classes=20 if args.quick else 200, num_images=10, image_size=32, seed=0)
    for index, images in enumerate(characters):
        folder = Path(args.path) / f"character_{index:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(images):
            if not (folder / f"{number}.png").exists():
                Image.fromarray(image[..., 0]).save(folder / f"{number}.png")

# %% The experiment: a small model, made for minutes. configs/own_images.py has one for hours on a GPU.
config = own_images.get_config()
config.data.update(path=args.path, set_size=5, sets_per_batch=8)
config.model.update(width=64, c_channels=16, z_channels=16, patch=4)
config.model.update(encoder="8-2,4-2,1-1", latents="8-2,4-2,1-1", decoder="8-3")
config.optimizer.update(learning_rate=3e-3, schedule="cosine", decay_factor=0.02, warmup=50, ema=0.99)
config.train.update(minutes=args.minutes, steps=2000, eval_every=500, save_every=500, sample_every=0, log_every=50)
if args.drawings:
    config.data.update(channels=1, binarize="dynamic")
    config.model.likelihood = "bernoulli"
if args.quick:
    config.model.update(width=8, c_channels=2, z_channels=2, encoder="8-1,1-1", latents="8-1,1-1", decoder="8-1")
    config.train.update(steps=2, eval_every=2, save_every=2, log_every=1, devices=1)
    config.eval.val_sets = 2

# %% Training. A random tenth of the classes is for validation, a fifth for test: the model does not learn from them.
train(config, workdir)
few = hfsgm_jax.load(workdir)

# %% Some test classes: five images that the model is shown, and one more
test = load_dataset(config.data, "test")
rows = np.flatnonzero(test.size >= 6)[: 2 if args.quick else 8]
names = [test.info["class_names"][row] for row in rows]
shown, more = (np.stack([test.images[test.start[row] :][part] for row in rows]) for part in (slice(5), slice(5, 6)))
contexts = dict(zip(names, shown, strict=True))

# %% New images of each class (mode="refined" takes longer and is often better), and of classes that it imagines
new = np.stack([few.generate(images, num=8) for images in shown])
page = pictures.grid([shown / 255, new], ["five images", "new images"])
print(pictures.save(page, workdir / "new_images.png"))
page = pictures.grid([few.generate(None, num=40, mode="unconditional").reshape(5, 8, *few.image_shape)])
print(pictures.save(page, workdir / "imagined.png"))

# %% How likely is a set? One more image of the class is likelier than a stranger.
for name, image in list(zip(names, more, strict=True))[:2]:
    value = few.log_likelihood(np.concatenate([shown[0], image]), num_samples=20)
    print(f"log p(five images of {names[0]}, one of {name}) = {value:.1f} nats")

# %% Which class does the sixth image belong to?
labels, log_probs = few.classify(contexts, np.concatenate(more))
for name, label, row in zip(names, labels, log_probs, strict=True):
    print(f"an image of {name} is named {label} (probability {np.exp(row.max()):.2f})")

# %% Which classes are alike?
vectors = np.stack([few.embed(images) for images in shown])
apart = np.linalg.norm(vectors[:, None] - vectors, axis=-1) + np.diag(np.full(len(vectors), np.inf))
first, second = np.unravel_index(apart.argmin(), apart.shape)
print(f"most alike to the model: {names[first]} and {names[second]}")
