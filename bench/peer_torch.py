"""PyTorch on a workload, for run.py: the same conversation as the programs of libmpt (common/side.h).

python3 peer_torch.py WORKLOAD PRECISION THREADS FOLDER [--device D] [--batch N] [--parameters N] [--compile]

FOLDER holds the weights and the batches that libmpt's program wrote: both sides train the same network from the same weights
on the same batches with the same AdamW. fp32 is plain eager mode; fp16 and bf16 are autocast over FP32 weights, fp16 with a
GradScaler. Of the fused and the foreach optimizer the faster one is taken. On a GPU TF32 is off, --compile compiles the model
with torch.compile, every step is waited for, and memory is the most that PyTorch's allocator had in use.
"""

import argparse
import json
import math
import os
import re
import resource
import statistics
import struct
import sys
import time
import typing

import torch
import torch.nn.functional as F
from torch import nn

MLP_BATCH, MLP_INPUTS, MLP_HIDDEN, MLP_CLASSES, MLP_BATCHES = 256, 1024, 4096, 10, 8
OPTIMIZER_TENSORS, OPTIMIZER_COLUMNS = 10, 1000


class GptSize(typing.NamedTuple):
    batch: int
    context: int
    width: int
    layers: int
    heads: int
    vocabulary: int
    batches: int


GPT_SIZES = {"gpt": GptSize(16, 128, 256, 4, 4, 256, 64), "gpt2-124m": GptSize(32, 1024, 768, 12, 12, 50304, 4)}
WARM_STEPS = 2


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(MLP_INPUTS, MLP_HIDDEN)
        self.fc2 = nn.Linear(MLP_HIDDEN, MLP_HIDDEN)
        self.fc3 = nn.Linear(MLP_HIDDEN, MLP_CLASSES)

    def forward(self, x):
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class Attention(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.heads = size.heads
        self.in_proj = nn.Linear(size.width, 3 * size.width)
        self.out_proj = nn.Linear(size.width, size.width)

    def forward(self, x):
        batch, context, width = x.shape
        parts = self.in_proj(x).view(batch, context, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)
        return self.out_proj(y.transpose(1, 2).reshape(batch, context, width))


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.norm1 = nn.LayerNorm(size.width)
        self.attn = Attention(size)
        self.norm2 = nn.LayerNorm(size.width)
        self.fc1 = nn.Linear(size.width, 4 * size.width)
        self.fc2 = nn.Linear(4 * size.width, size.width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.byte = nn.Embedding(size.vocabulary, size.width)
        self.position = nn.Embedding(size.context, size.width)
        self.block = nn.ModuleList(Block(size) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width)
        self.head = nn.Linear(size.width, size.vocabulary, bias=False)

    def forward(self, x):
        h = self.byte(x) + self.position.weight
        for block in self.block:
            h = block(h)
        return self.head(self.norm(h))


def tensor_of(data, dtype, shape):
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape)


def read_weights(model, path):
    """From a safetensors file; block0.attn.in_proj_weight there is block.0.attn.in_proj.weight here."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    weights = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        name = re.sub(r"^block(\d+)\.", r"block.\1.", name)
        name = name.replace("in_proj_", "in_proj.")
        weights[name] = tensor_of(data[begin:end], torch.float32, entry["shape"])
    model.load_state_dict(weights)


def read_batches(workload, batch, path):
    if workload == "mlp":
        batch = batch or MLP_BATCH
        count, x_shape, y_shape, x_dtype = MLP_BATCHES, (batch, MLP_INPUTS), (batch,), torch.float32
    else:
        size = GPT_SIZES[workload]
        x_shape = y_shape = (batch or size.batch, size.context)
        count, x_dtype = size.batches, torch.int32
    with open(path, "rb") as file:
        data = file.read()
    x_bytes = 4 * count * torch.Size(x_shape).numel()
    x = tensor_of(data[:x_bytes], x_dtype, (count, *x_shape))
    y = tensor_of(data[x_bytes:], torch.int32, (count, *y_shape)).long()
    return (x if x_dtype == torch.float32 else x.long()), y


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


class Training:
    def __init__(self, options):
        workload, folder, self.device = options.workload, options.folder, options.device
        self.compile = options.compile
        self.x, self.y = read_batches(workload, options.batch, f"{folder}/batches.bin")
        self.batch = self.x.shape[1]
        self.resident = resident()
        self.dtype, self.scaler = None, None
        self.make = Mlp if workload == "mlp" else lambda: Gpt(GPT_SIZES[workload])
        self.weights = f"{folder}/weights.safetensors"

    def begin(self, optimizer):
        """The initial state with that kind of optimizer."""
        self.model = self.optimizer = None
        self.model = self.make()
        read_weights(self.model, self.weights)
        self.model.to(self.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01,
                                           **optimizer)

    def set_precision(self, precision):
        self.dtype = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
        self.scaler = torch.amp.GradScaler(self.device.type) if precision == "fp16" else None
        if self.compile:
            self.model = torch.compile(self.model)

    def step(self, index):
        which = index % self.x.shape[0]
        x, y = (batches[which].to(self.device) for batches in (self.x, self.y))  # they come from the host, as for libmpt
        with torch.autocast(self.device.type, dtype=self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            logits = self.model(x)
            loss = F.cross_entropy(logits.flatten(0, -2), y.flatten())
        self.optimizer.zero_grad(set_to_none=True)
        if self.scaler:
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            loss.backward()
            self.optimizer.step()
        loss = loss.item()
        wait(self.device)
        return loss

    def update_time(self):
        """Of the update alone, on gradients that are there."""
        times = []
        for _ in range(3):
            wait(self.device)
            begin = time.perf_counter()
            self.optimizer.step()
            wait(self.device)
            times.append(time.perf_counter() - begin)
        return min(times)


class Update:
    """The update alone, over FP32 weights and gradients, after the check for non-finite values by the gradients' norm."""

    def __init__(self, options):
        self.kind, self.device = options.workload, options.device
        self.batch = 1
        self.shape = (int((options.parameters or 1e7) / (OPTIMIZER_TENSORS * OPTIMIZER_COLUMNS)), OPTIMIZER_COLUMNS)
        self.resident = resident()

    def begin(self, optimizer):
        torch.manual_seed(1)
        self.optimizer = self.gradients = None
        weights = [self.random().requires_grad_() for _ in range(OPTIMIZER_TENSORS)]
        for weight in weights:
            weight.grad = self.random()
        self.gradients = [weight.grad for weight in weights]
        if self.kind == "adamw":
            self.optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.01, **optimizer)
        else:
            self.optimizer = torch.optim.SGD(weights, lr=1e-3, momentum=0.9, weight_decay=0.01, **optimizer)

    def random(self):
        return torch.empty(self.shape, device=self.device).uniform_(-1, 1)

    def set_precision(self, precision):
        if precision != "fp32":
            raise SystemExit(f"found the precision {precision}, expected fp32: PyTorch has no update with 16-bit copies")

    def step(self, index):
        norm = torch.nn.utils.get_total_norm(self.gradients).item()
        if math.isfinite(norm):
            self.optimizer.step()
        wait(self.device)
        return norm

    update_time = Training.update_time


def choose_optimizer(side):
    """The faster of PyTorch's implementations."""
    best = None
    for candidate in ({"fused": True}, {"foreach": True}):
        try:
            side.begin(candidate)
            side.step(0)
            seconds = side.update_time()
        except (RuntimeError, TypeError, ValueError):
            continue
        if best is None or seconds < best[0]:
            best = seconds, candidate
    return best[1] if best else {}


def number(value):
    return value if math.isfinite(value) else None


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("workload")
    parser.add_argument("precision")
    parser.add_argument("threads", type=int)
    parser.add_argument("folder")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--parameters", type=float, default=0)
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


def main():
    options = parse()
    precision = options.precision
    torch.set_num_threads(options.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    trains = options.workload == "mlp" or options.workload in GPT_SIZES
    side = Training(options) if trains else Update(options)
    optimizer = choose_optimizer(side)  # in FP32: the update is the same in all modes
    side.begin(optimizer)
    side.set_precision(precision)
    ms, losses = [], []

    def run(count):
        for _ in range(count):
            begin = time.perf_counter()
            losses.append(side.step(len(losses)))
            ms.append(1e3 * (time.perf_counter() - begin))

    on_gpu = options.device.type == "cuda"
    if on_gpu:  # what choosing the optimizer took does not count
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(options.device)
    run(WARM_STEPS)
    mode = "eager" if precision == "fp32" else f"autocast {precision}"
    if options.compile:
        mode = f"compiled, {mode}" if precision != "fp32" else "compiled"
    name = f"PyTorch {torch.__version__.split('+')[0]} {mode}"
    print(json.dumps({"ready": True, "name": name, "ms": ms[-1]}), flush=True)
    for line in sys.stdin:
        if line == "end\n":
            break
        first = len(ms)
        run(int(line.split()[1]))
        print(json.dumps({"ms": ms[first:], "loss": [number(x) for x in losses[first:]]}), flush=True)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    measured = ms[WARM_STEPS:]
    median = statistics.median(measured)
    items = side.batch if trains else OPTIMIZER_TENSORS * torch.Size(side.shape).numel()
    print(json.dumps({
        "workload": options.workload, "device": str(options.device), "precision": precision, "threads": torch.get_num_threads(), "batch": side.batch,
        "ms_median": median, "ms_min": min(measured), "ms_max": max(measured), "per_s": items * 1e3 / median,
        "loss_first": number(losses[0]), "loss_last": number(losses[-1]), "steps": len(losses), "peer": name, "ratio": None,
        "bytes": None, "resident_bytes": peak - side.resident, "optimizer": next(iter(optimizer), "for-loop"),
        "device_bytes": torch.cuda.max_memory_allocated(options.device) if on_gpu else None, "compiled": options.compile,
    }), flush=True)


main()
