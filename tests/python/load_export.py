"""Loads an export as others would, and compares its features with those that equimod wrote.

    python3 load_export.py EXPORT IMAGES FEATURES IMAGE ITS_FEATURES [HUB_REPOSITORY]

EXPORT is a folder of `equimod export`; IMAGES a folder of PNG files of the network's input size; FEATURES what
`equimod embed EXPORT --data IMAGES --out FEATURES.npy` wrote; IMAGE a PNG file of any size, ITS_FEATURES the same of it: every
Python snippet of the card has to give them, too. With HUB_REPOSITORY (and HF_ENDPOINT), timm loads the same weights from
there. Prints one line for each thing that was done.
"""

import importlib.util
import json
import os
import pathlib
import re
import sys

import numpy
import torch
import torchvision
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

# Of the largest feature, where that is above 1.
TOLERANCE = 1e-5


def has(name):
    return importlib.util.find_spec(name) is not None


def images(folder, config):
    normalization = config["equimod"]["preprocessing"]["normalization"]
    mean, std = (torch.tensor(normalization[key]).reshape(1, 3, 1, 1) for key in ("mean", "std"))
    files = sorted(pathlib.Path(folder).rglob("*.png"))
    pixels = torch.stack([torch.from_numpy(numpy.array(Image.open(f).convert("RGB"))) for f in files])
    return (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std


def compare(what, model, inputs, expected):
    with torch.no_grad():
        found = model.eval()(inputs)
    worst = (found.reshape(expected.shape) - expected).abs().max().item()
    assert worst <= TOLERANCE * max(1.0, expected.abs().max().item()), f"{what}: features differ by up to {worst}"
    assert expected.abs().max().item() > 0.01, f"{what}: nothing to compare"
    print(f"{what}: features of {len(inputs)} images differ by up to {worst:.1e}")


def snippets(folder):
    text = (pathlib.Path(folder) / "README.md").read_text()
    found = re.findall(r"```python\n(.*?)```", text, re.S)
    assert found, "the card has no snippets"
    return found


def run_snippets(folder, inputs, expected, image, its_features):
    before = os.getcwd()
    pixels = Image.open(image)
    os.chdir(folder)
    copy = pathlib.Path("image.jpg")
    pixels.save(copy, "PNG")
    try:
        for snippet in snippets("."):
            libraries = re.findall(r"^(?:import|from) (\w+)", snippet, re.M)
            if not all(has(library) for library in libraries):
                print(f"left out: a snippet that needs {', '.join(libraries)}")
                continue
            names = {}
            exec(snippet, names)
            if "transformers" in libraries:
                compare("snippet of transformers", Pooled(names["model"]), inputs, expected)
                continue
            compare(f"snippet of {libraries[0]}", names["model"], inputs, expected)
            worst = (names["features"].reshape(its_features.shape) - its_features).abs().max().item()
            assert worst <= TOLERANCE * max(1.0, its_features.abs().max().item()), f"an image as the snippet takes it: {worst}"
            print(f"snippet of {libraries[0]}: features of an image of {pixels.size} differ by up to {worst:.1e}")
    finally:
        copy.unlink()
        os.chdir(before)


class Pooled(torch.nn.Module):
    """A model of transformers as a function from images to features."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs):
        return self.model(pixel_values=inputs).pooler_output


def main():
    folder, data, features, image, its_features = sys.argv[1:6]
    config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    weights = pathlib.Path(folder) / "model.safetensors"
    inputs = images(data, config)
    expected = torch.from_numpy(numpy.load(features))
    with safe_open(str(weights), "pt") as file:
        assert file.metadata() == {"format": "pt"}, file.metadata()
    run_snippets(folder, inputs, expected, os.path.abspath(image), torch.from_numpy(numpy.load(its_features)))
    if "architecture" in config:
        model = getattr(torchvision.models, config["architecture"])()
        missing, unexpected = model.load_state_dict(load_file(str(weights)), strict=False)
        assert (missing, unexpected) == (["fc.weight", "fc.bias"], []), (missing, unexpected)
        model.fc = torch.nn.Identity()
        compare("torchvision", model, inputs, expected)
        if has("timm"):
            import timm

            model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0)
            compare("timm, from the folder", model, inputs, expected)
            if len(sys.argv) > 6:
                model = timm.create_model(f"hf-hub:{sys.argv[6]}", pretrained=True, num_classes=0)
                compare("timm, from the Hub", model, inputs, expected)
        else:
            print("left out: timm is not installed")
    if has("huggingface_hub") and has("yaml"):
        from huggingface_hub import ModelCard

        card = ModelCard.load(pathlib.Path(folder) / "README.md")
        print(f"card: {len(card.data.eval_results or [])} results")


main()
