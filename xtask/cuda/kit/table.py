"""The summary of a folder of results, in Markdown; fails if a part has failed.

Reads parts.tsv (kind, verdict, seconds, name and remark of each part) and results.jsonl (lines of `equimod bench step`
and of torch_step.py).
"""
import json
import pathlib
import sys

COLUMNS = ["network", "batch", "precision", "equimod, images/s", "MiB"]
COLUMNS += ["PyTorch, images/s", "MiB", "ratio", "torch.compile, images/s", "MiB", "ratio"]
PRECISIONS = ["f32", "tf32", "bf16"]
NONE = "–"


def source(line):
    """Which column a result belongs to."""
    return line["mode"] if line["what"] == "pytorch" else "equimod"


def case(line):
    """Which row a result belongs to. PyTorch always chooses algorithms by their time."""
    is_ours = line["what"] != "pytorch"
    different = [("not autotuned", is_ours and not line["autotune"]), ("not fused", is_ours and not line["fused"])]
    remarks = "".join(f", {remark}" for remark, holds in different if holds)
    return line["arch"], line["size"], line["batch"], line["precision"], remarks


def cells(line, ours):
    """Images a second and memory of a result, and equimod's images a second over PyTorch's."""
    if line is None or "failure" in line:
        return [NONE, NONE, NONE]
    memory = line.get("allocated_mib", line.get("peak_mib"))
    ratio = f"{ours['images_per_s'] / line['images_per_s']:.2f}" if ours else NONE
    return [f"{line['images_per_s']:.0f}", NONE if memory is None else f"{memory:.0f}", ratio]


def table(lines):
    """One row for each case."""
    rows = {}
    for line in lines:
        rows.setdefault(case(line), {})[source(line)] = line
    yield COLUMNS
    yield ["---"] * len(COLUMNS)
    order = sorted(rows, key=lambda row: (row[:3], PRECISIONS.index(row[3]), row[4]))
    for key in order:
        arch, size, batch, precision, remarks = key
        found = rows[key]
        ours = found.get("equimod")
        yield [f"{arch}, {size} pixels", f"{batch} × 3", precision + remarks, *cells(ours, None)[:2],
               *cells(found.get("eager"), ours), *cells(found.get("compile"), ours)]


def launches(lines):
    """Sentences on the kernels that a step launches."""
    for line in lines:
        if line.get("launches"):
            is_ours = line["what"] == "launches"
            name = "equimod" if is_ours else f"PyTorch, {line['mode']}"
            inside = ", without those inside of cuDNN and cuBLAS" if is_ours else ""
            case = f"{line['arch']}, batch {line['batch']} × 3, {line['precision']}"
            yield f"- {name}: {line['launches']} kernels a step ({case}{inside})"


def sentences(parts, lines):
    """Counts of checks, and what did not go well."""
    checks = [verdict for kind, verdict, *_ in parts if kind == "check"]
    counts = [f"{checks.count(verdict)} {verdict}" for verdict in ["passed", "failed", "skipped"]]
    yield f"Checks: {', '.join(counts)}."
    for kind, verdict, seconds, name, remark in parts:
        if kind == "check" or verdict != "passed":
            yield f"- {kind} {name}: {verdict} ({seconds} s)" + (f": {remark}" if remark else "")
    for line in lines:
        if "failure" in line:
            what = f"{line['mode']} {line['arch']} {line['precision']}, batch {line['batch']}"
            yield f"- PyTorch {what}: {line['failure']}"


def main():
    folder = pathlib.Path(sys.argv[1])
    parts = [line.split("\t") for line in (folder / "parts.tsv").read_text().splitlines()]
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    print("# equimod on this machine\n")
    print("\n".join(f"- {line}" for line in (folder / "machine.txt").read_text().splitlines()) + "\n")
    print("\n".join(sentences(parts, lines)))
    print("\nA ratio is equimod's images per second over PyTorch's. Each image has three views.\n")
    for row in table([line for line in lines if line["what"] != "launches"]):
        print(f"| {' | '.join(row)} |")
    print("\nLaunches:\n" + "\n".join(launches(lines)))
    return any(verdict == "failed" for _, verdict, *_ in parts)


if __name__ == "__main__":
    sys.exit(main())
