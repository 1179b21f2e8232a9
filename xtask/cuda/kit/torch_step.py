"""Steps of SimCLR + EquiMod in PyTorch, as a reference for `equimod bench step`; equimod does not need PyTorch.

The work is the same: three views of each image go through one ResNet, with projection heads of 2048-2048-128, NT-Xent
between the views, and NT-Xent between the views and their predictions. The optimizer is SGD with momentum, not LARS.
Each case prints one line of JSON.
"""
import argparse
import json
import statistics
import time

import torch
import torchvision
from torch import nn
from torch.nn import functional

PARAMETERS = 15  # width of the parameter vectors
TEMPERATURE = 0.2
WARM_UP = 3


def head(inputs, *widths, affine):
    """A projection head that ends with batch norm."""
    layers = []
    for number, width in enumerate(widths, 1):
        last = number == len(widths)
        layers += [nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width, affine=affine or not last)]
        layers += [] if last else [nn.ReLU(inplace=True)]
        inputs = width
    return nn.Sequential(*layers)


def nt_xent(embeddings):
    """NT-Xent of two halves, whose rows are pairs."""
    rows = functional.normalize(embeddings.float(), dim=1)
    count = rows.shape[0]
    numbers = torch.arange(count, device=rows.device)
    itself = numbers[:, None] == numbers[None, :]
    similarities = (rows @ rows.t() / TEMPERATURE).masked_fill(itself, float("-inf"))
    return functional.cross_entropy(similarities, (numbers + count // 2) % count)


class Method(nn.Module):
    """SimCLR + EquiMod; the clean images come first, then both views."""

    def __init__(self, arch, hidden):
        super().__init__()
        self.backbone = getattr(torchvision.models, arch)(weights=None)
        features, self.backbone.fc = self.backbone.fc.in_features, nn.Identity()
        self.invariant = head(features, hidden, hidden, 128, affine=False)
        self.equivariant = head(features, hidden, hidden, 128, affine=False)
        self.parameters_head = head(PARAMETERS, 128, affine=True)
        self.predictor = head(256, 128, affine=False)

    def forward(self, images, parameters):
        features = self.backbone(images)
        count = images.shape[0] // 3
        embedded = self.equivariant(features)
        start = torch.cat([embedded[:count], embedded[:count]])
        predicted = self.predictor(torch.cat([start, self.parameters_head(parameters)], 1))
        views = embedded[count:]
        return nt_xent(self.invariant(features[count:])) + nt_xent(torch.cat([views, predicted]))


def measure(options, arch, batch, precision):
    """Median seconds of a step, and peak memory in MiB and launched kernels (None where they are not measured)."""
    on_gpu = options.device.startswith("cuda")
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    method = Method(arch, options.hidden).to(options.device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(method.parameters(), 0.1, momentum=0.9, **({"fused": True} if on_gpu else {}))
    images = torch.randn(3 * batch, 3, options.size, options.size, device=options.device)
    images = images.contiguous(memory_format=torch.channels_last)
    parameters = torch.randn(2 * batch, PARAMETERS, device=options.device)
    forward = torch.compile(method, dynamic=False) if options.mode == "compile" else method

    def step():
        with torch.autocast(options.device.split(":")[0], torch.bfloat16, enabled=precision == "bf16"):
            loss = forward(images, parameters)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if on_gpu:
            torch.cuda.synchronize(options.device)

    times = []
    for number in range(WARM_UP + options.steps):
        if on_gpu and number == WARM_UP:
            torch.cuda.reset_peak_memory_stats(options.device)
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated(options.device) >> 20 if on_gpu else None
    counted = on_gpu and (arch, batch, precision) == ("resnet50", 64, "bf16")
    return statistics.median(times[WARM_UP:]), peak, launches(step) if counted else None


def launches(step):
    """Kernels that a step launches, by PyTorch's profiler; None if it does not work here."""
    try:
        with torch.profiler.profile(activities=list(torch.profiler.supported_activities())) as profiler:
            step()
        return sum(event.count for event in profiler.key_averages() if "LaunchKernel" in event.key) or None
    except RuntimeError:
        return None


def case(options, arch, batch, precision):
    """The line of one case, with its result or the reason why it has none."""
    line = {"what": "pytorch", "mode": options.mode, "arch": arch, "size": options.size, "batch": batch}
    line |= {"precision": precision, "torch": torch.__version__}
    if time.perf_counter() - options.start > options.seconds:
        return line | {"failure": "no time was left"}
    try:
        seconds, peak, counted = measure(options, arch, batch, precision)
    except Exception as reason:  # Out of memory, or no compiler: the other cases go on.
        text = str(reason).strip() or type(reason).__name__
        return line | {"failure": text.splitlines()[0]}
    finally:
        if options.mode == "compile" and hasattr(torch, "compile"):
            torch.compiler.reset()
        if options.device.startswith("cuda"):
            torch.cuda.empty_cache()
    return line | {"step_ms": 1e3 * seconds, "images_per_s": batch / seconds, "peak_mib": peak, "launches": counted}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--mode", choices=["eager", "compile"], default="eager")
    parser.add_argument("--arch", nargs="+", default=["resnet18", "resnet50"])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 128, 16])
    parser.add_argument("--precision", nargs="+", choices=["tf32", "bf16"], default=["bf16", "tf32"])
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=10, help="timed steps, whose median is printed")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="seconds after which no case begins")
    options = parser.parse_args()
    options.start = time.perf_counter()
    lines = []
    for batch in options.batch:
        for arch in options.arch:
            for precision in options.precision:
                lines.append(case(options, arch, batch, precision))
                print(json.dumps(lines[-1]), flush=True)
    if all("failure" in line for line in lines):
        raise SystemExit(f"no case could be measured: {lines[0]['failure']}")


if __name__ == "__main__":
    main()
