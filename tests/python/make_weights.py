"""Writes files of weights as PyTorch's users have them, and what PyTorch says of each, into a folder.

Needs torch and torchvision, and makes more with timm: python3 make_weights.py FOLDER
"""

import collections
import json
import pathlib
import sys
import zipfile

import numpy
import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

try:
    import timm.models.resnet as timm
except ImportError:
    timm = None

WIDTH = 4
# The longest name that file systems take has 255 bytes.
STEMS = range(1, 251)


def seeded(network):
    """Gives every norm statistics of its own."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def narrow(block, blocks, **variant):
    """torchvision's ResNet with fewer channels."""
    network = torchvision.models.ResNet(block, blocks, **variant)
    network.inplanes = WIDTH
    network.conv1 = nn.Conv2d(3, WIDTH, 7, stride=2, padding=3, bias=False)
    network.bn1 = nn.BatchNorm2d(WIDTH)
    for stage in range(4):
        layer = network._make_layer(block, WIDTH << stage, blocks[stage], stride=1 if stage == 0 else 2)
        setattr(network, f"layer{stage + 1}", layer)
    network.fc = nn.Identity()
    return seeded(network)


def small(padding=1, pool=False):
    """A ResNet-18 with a 3x3 stem."""
    network = narrow(BasicBlock, [2, 2, 2, 2])
    network.conv1 = nn.Conv2d(3, WIDTH, 3, padding=padding, bias=False)
    if not pool:
        network.maxpool = nn.Identity()
    return network.eval()


def features(network, side):
    values = torch.arange(3 * side * side, dtype=torch.float32)
    image = ((values * 7) % 23 / 11.5 - 1).reshape(1, 3, side, side)
    with torch.no_grad():
        return network(image).flatten().tolist()


class Folder:
    def __init__(self, folder):
        self.folder = folder
        self.networks = {}
        self.tensors = {}

    def network(self, name, saved, network, side, options=(), **form):
        """A file with one network in it, and the features of one image."""
        torch.save(saved, self.folder / name, **form)
        self.networks[name] = {"side": side, "options": list(options), "features": features(network, side)}

    def plain(self, name, saved, tensors, **form):
        """A file with a few tensors in it."""
        torch.save(saved, self.folder / name, **form)
        self.tensors[name] = {key: value.double().flatten().tolist() for key, value in tensors.items()}


def stems(folder):
    """Names of every length: the archive's folder is called like the file, and PyTorch pads what follows."""
    for length in STEMS:
        numbers = torch.arange(1 + length % 9, dtype=torch.float32)
        tensors = {
            "float": numbers,
            "half": numbers.half() + 0.5,
            "byte": torch.arange(length % 5, dtype=torch.uint8),
            "double": numbers.double() / 3,
            "strided": torch.arange(12.0).reshape(3, 4).t()[1:, ::2],
        }
        folder.plain(f"{'s' * length}.pth", tensors, tensors)


class Eight:
    """A tensor of a type that this version of PyTorch has not, pickled as later ones do it."""

    def __init__(self, name, bytes_):
        self.name, self.bytes = name, torch.tensor(bytes_, dtype=torch.uint8)

    def __reduce_ex__(self, protocol):
        storage = self.bytes.storage()
        storage = storage.untyped() if hasattr(storage, "untyped") else storage
        arguments = (storage, 0, (len(self.bytes),), (1,), False, collections.OrderedDict(), getattr(torch, self.name))
        return torch._utils._rebuild_tensor_v3, arguments


class Type:
    """The name of a type of elements."""

    def __init__(self, name):
        self.name = name

    def __reduce__(self):
        return self.name

    __module__ = "torch"


def float8(name, values, bytes_):
    """`values` in a type of 8 bits: by PyTorch where it has the type, which then proves `bytes_`."""
    if hasattr(torch, "float8_e4m3fn") and isinstance(torch.float8_e4m3fn, torch.dtype):
        made = values.to(getattr(torch, name))
        assert made.view(torch.uint8).tolist() == bytes_, name
        return made
    if not hasattr(torch, name):
        setattr(torch, name, Type(name))
        torch._utils._rebuild_tensor_v3 = rebuild = lambda *_: None
        rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v3"
    return Eight(name, bytes_)


def forms(folder):
    """Every protocol in both layouts, types of elements, and what surrounds a state dictionary."""
    tensors = {
        "a": torch.linspace(-1, 1, 7),
        "b": torch.arange(-3, 3),
        "c": torch.tensor(2.5),
        "d": torch.zeros(0, 4),
        "e": torch.randn(2, 3, 4).permute(2, 0, 1),
    }
    shared = torch.arange(10.0)
    tensors["f"], tensors["g"] = shared[2:5], shared[::3]
    for protocol in (2, 3, 4, 5):
        for zipped in (False, True):
            name = f"protocol-{protocol}-{'zip' if zipped else 'legacy'}.pt"
            form = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zipped}
            folder.plain(name, collections.OrderedDict(tensors), tensors, **form)
    types = {
        "int8": torch.tensor([-128, -1, 127], dtype=torch.int8),
        "int16": torch.tensor([-300, 300], dtype=torch.int16),
        "int32": torch.tensor([-70000, 70000], dtype=torch.int32),
        "bool": torch.tensor([True, False]),
        "bfloat16": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    }
    folder.plain("types.pt", types, {key: value.float() for key, value in types.items()})
    # Zero, minus one, 0.375 and 24 in each format.
    eights = {
        "float8_e4m3fn": [0x00, 0xB8, 0x2C, 0x5C],
        "float8_e5m2": [0x00, 0xBC, 0x36, 0x4E],
        "float8_e4m3fnuz": [0x00, 0xC0, 0x34, 0x64],
        "float8_e5m2fnuz": [0x00, 0xC0, 0x3A, 0x52],
    }
    values = torch.tensor([0.0, -1.0, 0.375, 24.0])
    saved = {name: float8(name, values, bytes_) for name, bytes_ in eights.items()}
    folder.plain("eights.pt", saved, {name: values for name in eights})
    unread = {"fine": torch.ones(2), "complex": torch.ones(2, dtype=torch.complex64)}
    folder.plain("unread.pt", unread, {"fine": torch.ones(2)})
    nested = {"parts": [{"weights": (torch.ones(1), torch.zeros(2))}]}
    folder.plain("nested.pt", nested, {"parts.0.weights.0": torch.ones(1), "parts.0.weights.1": torch.zeros(2)})


def archives(folder):
    """The same archive as others write it: storages at any byte, compressed, with a comment and no checksums, in zip64."""
    numbers = torch.arange(7.0)
    tensors = {"a": numbers, "b": numbers.half(), "c": numbers.byte()[:3], "d": numbers.double()}
    torch.save(tensors, folder.folder / "whole.pt")
    said = {key: value.double().flatten().tolist() for key, value in tensors.items()}
    limits = zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT
    with zipfile.ZipFile(folder.folder / "whole.pt") as whole:
        parts = {entry: whole.read(entry) for entry in whole.namelist()}
    for shift in range(8):
        folder.tensors[f"shifted-{shift}.pt"] = said
        with zipfile.ZipFile(folder.folder / f"shifted-{shift}.pt", "w") as archive:
            archive.writestr("whole/" + "x" * shift, b"")
            for entry, content in parts.items():
                archive.writestr(entry, content)
    folder.tensors["deflated.pt"] = said
    with zipfile.ZipFile(folder.folder / "deflated.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = b"a comment"
        for entry, content in parts.items():
            archive.writestr(entry, content)
    zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT = 16, 2
    folder.tensors["zip64.pt"] = said
    with zipfile.ZipFile(folder.folder / "zip64.pt", "w") as archive:
        for entry, content in parts.items():
            with archive.open(entry, "w", force_zip64=True) as part:
                part.write(content)
    zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT = limits
    # torch.serialization.set_crc32_options(False) leaves the checksums zero.
    content = bytearray((folder.folder / "whole.pt").read_bytes())
    for signature, place in ((b"PK\x01\x02", 16), (b"PK\x03\x04", 14)):
        start = content.find(signature)
        while start >= 0:
            content[start + place : start + place + 4] = bytes(4)
            start = content.find(signature, start + 4)
    folder.tensors["unchecked.pt"] = said
    (folder.folder / "unchecked.pt").write_bytes(content)


def checkpoints(folder):
    """A network and what lies beside it."""
    network = narrow(BasicBlock, [2, 2, 2, 2])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    state = network.state_dict()
    folder.network("tuple.pth", (state, optimizer.state_dict()), network, 40)
    folder.network("list.pth", [network, optimizer], network, 40, pickle_protocol=4)
    large = {
        "epoch": 3,
        "state_dict": state,
        "losses": [step / 7 for step in range(400_000)],
        "bank": numpy.arange(600_000, dtype=numpy.float64),
    }
    folder.network("large.ckpt", large, network, 40)
    folder.network("large-old.ckpt", large, network, 40, _use_new_zipfile_serialization=False, pickle_protocol=5)


def variants(folder):
    """Settings of the same network, by torchvision and timm."""
    blocks = [3, 4, 6, 3]
    resnext = narrow(Bottleneck, blocks, groups=4, width_per_group=32)
    folder.network("resnext.pth", resnext.state_dict(), resnext, 40)
    wide = narrow(Bottleneck, blocks, width_per_group=128)
    folder.network("wide.pth", wide.state_dict(), wide, 40)
    if timm is None:
        return
    channels = [WIDTH << stage for stage in range(4)]
    for name, block, blocks, variant in [
        ("resnet18d", timm.BasicBlock, [2, 2, 2, 2], {"stem_type": "deep", "avg_down": True}),
        ("resnet50d", timm.Bottleneck, [3, 4, 6, 3], {"stem_type": "deep", "avg_down": True}),
        ("resnet50c", timm.Bottleneck, [3, 4, 6, 3], {"stem_type": "deep"}),
        ("resnet26t", timm.Bottleneck, [3, 4, 6, 3], {"stem_type": "deep_tiered", "avg_down": True}),
        ("resnext50d", timm.Bottleneck, [3, 4, 6, 3], {"stem_type": "deep", "cardinality": 2, "base_width": 32}),
    ]:
        network = timm.ResNet(block, blocks, stem_width=WIDTH, num_classes=0, channels=channels, **variant)
        network = seeded(network)
        # Sides that stages halve to odd numbers.
        folder.network(f"timm-{name}.pth", network.state_dict(), network, 54)


def assumptions(folder):
    """What names and shapes do not say."""
    # solo-learn makes its CIFAR ResNets so: solo/methods/base.py.
    solo = small(padding=2)
    state = {f"backbone.{name}": value for name, value in solo.state_dict().items()}
    state["classifier.weight"] = torch.zeros(10, 8 * WIDTH)
    parameters = {"method": "byol", "backbone": {"name": "resnet18", "kwargs": {}}, "data": {"dataset": "cifar100"}}
    saved = {"pytorch-lightning_version": "1.8.0", "state_dict": state, "hyper_parameters": parameters}
    folder.network("solo.ckpt", saved, solo, 32)
    folder.network("padded.pth", state, solo, 32, ["--stem-padding", "2"])
    # A ResNet that calls its ReLUs as functions, taken apart: lightly's SimCLR and MoCo tutorials do so.
    apart = small()
    layers = [apart.conv1, apart.bn1, apart.layer1, apart.layer2, apart.layer3, apart.layer4]
    apart = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1)).eval()
    folder.network("apart.pth", {f"backbone.{name}": value for name, value in apart.state_dict().items()}, apart, 32)
    silent = small()
    silent.relu = nn.Identity()
    folder.network("silent.pth", silent.state_dict(), silent, 32, ["--no-stem-relu"])
    pooled = small(pool=True)
    folder.network("pooled.pth", pooled.state_dict(), pooled, 32, ["--stem-max-pool"])
    unpooled = narrow(BasicBlock, [2, 2, 2, 2])
    unpooled.maxpool = nn.Identity()
    folder.network("unpooled.pth", unpooled.state_dict(), unpooled, 40, ["--no-stem-max-pool"])


def main():
    torch.manual_seed(0)
    folder = Folder(pathlib.Path(sys.argv[1]))
    for part in (stems, forms, archives, checkpoints, variants, assumptions):
        part(folder)
    said = {"torch": torch.__version__, "timm": timm is not None, "networks": folder.networks, "tensors": folder.tensors}
    (folder.folder / "said.json").write_text(json.dumps(said))


main()
