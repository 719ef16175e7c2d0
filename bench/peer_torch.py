"""PyTorch on a workload, for run.py: the same conversation as the programs of libmpt (common/side.h).

python3 peer_torch.py WORKLOAD PRECISION THREADS FOLDER

FOLDER holds the weights and the batches that libmpt's program wrote: both sides train the same network from the same weights
on the same batches with the same AdamW. fp32 is plain eager mode; fp16 and bf16 are autocast over FP32 weights, fp16 with a
GradScaler. Of the fused and the foreach optimizer the faster one is taken.
"""

import json
import math
import os
import resource
import statistics
import struct
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

MLP_BATCH, MLP_INPUTS, MLP_HIDDEN, MLP_CLASSES, MLP_BATCHES = 256, 1024, 4096, 10, 8
GPT_BATCH, GPT_CONTEXT, GPT_WIDTH, GPT_LAYERS, GPT_HEADS, GPT_BYTES, GPT_BATCHES = 16, 128, 256, 4, 4, 256, 64
OPTIMIZER_TENSORS, OPTIMIZER_SHAPE = 10, (1000, 1000)
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
    def __init__(self):
        super().__init__()
        self.in_proj = nn.Linear(GPT_WIDTH, 3 * GPT_WIDTH)
        self.out_proj = nn.Linear(GPT_WIDTH, GPT_WIDTH)

    def forward(self, x):
        batch, context, width = x.shape
        parts = self.in_proj(x).view(batch, context, 3, GPT_HEADS, width // GPT_HEADS).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)
        return self.out_proj(y.transpose(1, 2).reshape(batch, context, width))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(GPT_WIDTH)
        self.attn = Attention()
        self.norm2 = nn.LayerNorm(GPT_WIDTH)
        self.fc1 = nn.Linear(GPT_WIDTH, 4 * GPT_WIDTH)
        self.fc2 = nn.Linear(4 * GPT_WIDTH, GPT_WIDTH)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self):
        super().__init__()
        self.byte = nn.Embedding(GPT_BYTES, GPT_WIDTH)
        self.position = nn.Embedding(GPT_CONTEXT, GPT_WIDTH)
        self.block = nn.ModuleList(Block() for _ in range(GPT_LAYERS))
        self.norm = nn.LayerNorm(GPT_WIDTH)
        self.head = nn.Linear(GPT_WIDTH, GPT_BYTES, bias=False)

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
        for i in range(GPT_LAYERS):
            name = name.replace(f"block{i}.", f"block.{i}.")
        name = name.replace("in_proj_", "in_proj.")
        weights[name] = tensor_of(data[begin:end], torch.float32, entry["shape"])
    model.load_state_dict(weights)


def read_batches(workload, path):
    if workload == "mlp":
        count, x_shape, y_shape, x_dtype = MLP_BATCHES, (MLP_BATCH, MLP_INPUTS), (MLP_BATCH,), torch.float32
    else:
        count, x_shape, y_shape, x_dtype = GPT_BATCHES, (GPT_BATCH, GPT_CONTEXT), (GPT_BATCH, GPT_CONTEXT), torch.int32
    with open(path, "rb") as file:
        data = file.read()
    x_bytes = 4 * count * torch.Size(x_shape).numel()
    x = tensor_of(data[:x_bytes], x_dtype, (count, *x_shape))
    y = tensor_of(data[x_bytes:], torch.int32, (count, *y_shape)).long()
    return (x if x_dtype == torch.float32 else x.long()), y


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


class Training:
    def __init__(self, workload, folder):
        self.x, self.y = read_batches(workload, f"{folder}/batches.bin")
        self.batch = self.x.shape[1]
        self.resident = resident()
        self.dtype, self.scaler = None, None
        self.make = Mlp if workload == "mlp" else Gpt
        self.weights = f"{folder}/weights.safetensors"

    def begin(self, optimizer):
        """The initial state with that kind of optimizer."""
        self.model = self.optimizer = None
        self.model = self.make()
        read_weights(self.model, self.weights)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01,
                                           **optimizer)

    def set_precision(self, precision):
        self.dtype = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
        self.scaler = torch.amp.GradScaler("cpu") if precision == "fp16" else None

    def step(self, index):
        which = index % self.x.shape[0]
        with torch.autocast("cpu", dtype=self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            logits = self.model(self.x[which])
            loss = F.cross_entropy(logits.flatten(0, -2), self.y[which].flatten())
        self.optimizer.zero_grad(set_to_none=True)
        if self.scaler:
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            loss.backward()
            self.optimizer.step()
        return loss.item()

    def update_time(self):
        """Of the update alone, on gradients that are there."""
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            self.optimizer.step()
            times.append(time.perf_counter() - begin)
        return min(times)


class Update:
    """The update alone, over FP32 weights and gradients, after the check for non-finite values by the gradients' norm."""

    def __init__(self, workload):
        self.kind = workload
        self.batch = 1
        self.resident = resident()

    def begin(self, optimizer):
        torch.manual_seed(1)
        weights = [torch.empty(OPTIMIZER_SHAPE).uniform_(-1, 1).requires_grad_() for _ in range(OPTIMIZER_TENSORS)]
        for weight in weights:
            weight.grad = torch.empty(OPTIMIZER_SHAPE).uniform_(-1, 1)
        self.gradients = [weight.grad for weight in weights]
        if self.kind == "adamw":
            self.optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.01, **optimizer)
        else:
            self.optimizer = torch.optim.SGD(weights, lr=1e-3, momentum=0.9, weight_decay=0.01, **optimizer)

    def set_precision(self, precision):
        if precision != "fp32":
            raise SystemExit(f"found the precision {precision}, expected fp32: PyTorch has no update with 16-bit copies")

    def step(self, index):
        norm = torch.nn.utils.get_total_norm(self.gradients).item()
        if math.isfinite(norm):
            self.optimizer.step()
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


def main():
    workload, precision, threads, folder = sys.argv[1:]
    torch.set_num_threads(int(threads))
    side = Training(workload, folder) if workload in ("mlp", "gpt") else Update(workload)
    optimizer = choose_optimizer(side)  # in FP32: the update is the same in all modes
    side.begin(optimizer)
    side.set_precision(precision)
    ms, losses = [], []

    def run(count):
        for _ in range(count):
            begin = time.perf_counter()
            losses.append(side.step(len(losses)))
            ms.append(1e3 * (time.perf_counter() - begin))

    run(WARM_STEPS)
    mode = "eager" if precision == "fp32" else f"autocast {precision}"
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
    items = side.batch if workload in ("mlp", "gpt") else OPTIMIZER_TENSORS * torch.Size(OPTIMIZER_SHAPE).numel()
    print(json.dumps({
        "workload": workload, "device": "cpu", "precision": precision, "threads": torch.get_num_threads(), "batch": side.batch,
        "ms_median": median, "ms_min": min(measured), "ms_max": max(measured), "per_s": items * 1e3 / median,
        "loss_first": number(losses[0]), "loss_last": number(losses[-1]), "steps": len(losses), "peer": name, "ratio": None,
        "bytes": None, "resident_bytes": peak - side.resident, "optimizer": next(iter(optimizer), "for-loop"),
    }), flush=True)


main()
