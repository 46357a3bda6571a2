"""Small prepared tfds folders, made by the package's own preparation from archives of the real layout."""

import io
import tarfile
import zipfile

import numpy as np
from PIL import Image

from hfsgm_jax.data import tfds_prepare

CIFAR_IMAGES = (3, 2)  # per class, of train and test


def download_from(monkeypatch, folder):
    """Lets the download manager of tfds find every URL's file in ``folder``."""
    import jax
    import tensorflow_datasets as tfds

    manager = tfds.download.DownloadManager
    find = lambda self, urls: jax.tree.map(lambda url: folder / str(url).rsplit("/", 1)[-1], urls)
    monkeypatch.setattr(manager, "download", find)
    monkeypatch.setattr(manager, "download_and_extract", lambda self, urls: self.extract(find(self, urls)))
    monkeypatch.setattr(tfds_prepare, "_check_online", lambda url: None)


def cifar_image(label, number):
    """The ``number``-th image of a class: its corner names it, the rest is of random colours."""
    image = np.random.default_rng([label, number]).integers(0, 256, (32, 32, 3), np.uint8)
    image[0, 0] = label, number, 7
    return image


def write_cifar_archive(folder):
    """CIFAR100's binary archive with 3 training and 2 test images of each class; superclass = class // 5."""
    first = 0
    with tarfile.open(folder / "cifar-100-binary.tar.gz", "w:gz") as archive:

        def add(name, data):
            info = tarfile.TarInfo(f"cifar-100-binary/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))

        for part, count in zip(("train", "test"), CIFAR_IMAGES, strict=True):
            rows = [
                bytes([label // 5, label]) + cifar_image(label, first + i).transpose(2, 0, 1).tobytes()
                for i in range(count)
                for label in range(100)
            ]
            add(f"{part}.bin", b"".join(rows))
            first += count
        add("coarse_label_names.txt", "\n".join(f"coarse{i}" for i in range(20)).encode())
        add("fine_label_names.txt", "\n".join(f"fine{i}" for i in range(100)).encode())


def write_celeba_files(folder, images):
    """The files of CelebA's page; ``images`` are (identity, grey level) in the order of the file names."""
    names = [f"{i + 1:06}.jpg" for i in range(len(images))]
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
        for name, (_, grey) in zip(names, images, strict=True):
            picture = Image.new("RGB", (178, 218), "black")
            picture.paste((grey, grey, grey), (0, 20, 178, 198))  # the centred square
            data = io.BytesIO()
            picture.save(data, "jpeg", quality=95)
            archive.writestr(f"img_align_celeba/{name}", data.getvalue())

    def write(name, rows, header=""):
        lines = "".join(f"{name} {row}\n" for name, row in zip(names, rows, strict=True))
        (folder / name).write_text(header + lines)

    import tensorflow_datasets as tfds

    stock = tfds.builder("celeb_a", data_dir=str(folder / "unused")).info.features
    attributes, landmarks = list(stock["attributes"]), list(stock["landmarks"])
    write("list_eval_partition.txt", [i * 3 // len(names) for i in range(len(names))])
    write("identity_CelebA.txt", [identity for identity, _ in images])
    write("list_attr_celeba.txt", ["-1 " * 40] * len(names), f"{len(names)}\n{' '.join(attributes)}\n")
    write("list_landmarks_align_celeba.txt", ["1 " * 10] * len(names), f"{len(names)}\n{' '.join(landmarks)}\n")
