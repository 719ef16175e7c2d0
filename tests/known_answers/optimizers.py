"""Known answers of the optimizers and schedules: python3 optimizers.py OUTPUT.safetensors

Every case runs in double; the results are rounded once. Optimizers come from optax, but for Adagrad, where the library follows
PyTorch and optax has another formula. Exits with 77 where a package is missing.
"""

import os
import sys

OUTPUT = sys.argv[1]
if os.path.exists(OUTPUT):
    os.remove(OUTPUT)
try:
    import jax
    import numpy as np
    import optax
    from safetensors.numpy import save_file
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

jax.config.update("jax_enable_x64", True)

STEPS = 20
SHAPES = {"a": (7, 5), "b": (11,)}
# The numbers of mpt.h.
SGD, ADAM, ADAMW, LAMB, ADAGRAD, NOVOGRAD, LION = range(1, 8)
CONSTANT, LINEAR, COSINE, STEP, INVERSE_SQRT, POLYNOMIAL, TABLE = range(7)

tensors = {}
metadata = {}


def inputs(seed):
    """Weights about 1 and gradients of magnitudes from 1e-9 to 10, so that epsilons matter; one step has none at all."""
    random = np.random.default_rng(seed)
    weights, gradients = {}, {}
    for name, shape in SHAPES.items():
        weights[name] = random.normal(size=shape).astype(np.float32)
        magnitude = 10.0 ** random.uniform(-9, 1, size=shape)
        gradients[name] = (random.normal(size=(STEPS, *shape)) * magnitude).astype(np.float32)
        gradients[name][5] = 0
    return weights, gradients


def record(case, options, weights, gradients, trajectory, averages=None):
    for name in SHAPES:
        tensors[f"{case}.weights.{name}"] = weights[name]
        tensors[f"{case}.gradients.{name}"] = gradients[name]
        tensors[f"{case}.expected.{name}"] = np.stack([step[name] for step in trajectory]).astype(np.float32)
        if averages is not None:
            tensors[f"{case}.average.{name}"] = np.stack([step[name] for step in averages]).astype(np.float32)
    metadata[case] = ""
    for key, value in options.items():
        metadata[f"{case}.{key}"] = repr(value)


def averages_of(weights, trajectory, decay):
    averages = [weights]
    for step in trajectory:
        averages.append({name: decay * averages[-1][name].astype(np.float64) + (1 - decay) * step[name] for name in SHAPES})
    return averages[1:]


def with_optax(case, transformation, **options):
    weights, gradients = inputs(len(metadata))
    params = {name: jax.numpy.asarray(weights[name], jax.numpy.float64) for name in SHAPES}
    state = transformation.init(params)
    trajectory = []
    for step in range(STEPS):
        g = {name: jax.numpy.asarray(gradients[name][step], jax.numpy.float64) for name in SHAPES}
        updates, state = transformation.update(g, state, params)
        params = optax.apply_updates(params, updates)
        trajectory.append({name: np.asarray(params[name]) for name in SHAPES})
    decay = options.get("average_decay")
    record(case, options, weights, gradients, trajectory, averages_of(weights, trajectory, decay) if decay else None)


def adagrad_as_pytorch(case, learning_rate, epsilon, weight_decay):
    weights, gradients = inputs(len(metadata))
    w = {name: weights[name].astype(np.float64) for name in SHAPES}
    total = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    trajectory = []
    for step in range(STEPS):
        for name in SHAPES:
            g = gradients[name][step].astype(np.float64) + weight_decay * w[name]
            total[name] = total[name] + g * g
            w[name] = w[name] - learning_rate * g / (np.sqrt(total[name]) + epsilon)
        trajectory.append(dict(w))
    hyper = {"kind": ADAGRAD, "learning_rate": learning_rate, "epsilon": epsilon, "weight_decay": weight_decay}
    record(case, hyper, weights, gradients, trajectory)


def decayed(weight_decay, transformation):
    return optax.chain(optax.add_decayed_weights(weight_decay), transformation)


with_optax("sgd", optax.sgd(0.1), kind=SGD, learning_rate=0.1)
with_optax("sgd_decay", decayed(0.02, optax.sgd(0.1)), kind=SGD, learning_rate=0.1, weight_decay=0.02)
with_optax("sgd_momentum", decayed(0.01, optax.sgd(0.02, momentum=0.9)), kind=SGD, learning_rate=0.02, momentum=0.9,
           weight_decay=0.01)
with_optax("sgd_nesterov", decayed(0.01, optax.sgd(0.02, momentum=0.9, nesterov=True)), kind=SGD, learning_rate=0.02,
           momentum=0.9, nesterov=1, weight_decay=0.01)
with_optax("adam", optax.adam(0.01), kind=ADAM, learning_rate=0.01)
with_optax("adam_decay", decayed(0.1, optax.adam(0.01, b1=0.8, b2=0.99, eps=1e-6)), kind=ADAM, learning_rate=0.01, beta1=0.8,
           beta2=0.99, epsilon=1e-6, weight_decay=0.1)
with_optax("adamw", optax.adamw(0.01, weight_decay=0.1), kind=ADAMW, learning_rate=0.01, weight_decay=0.1)
with_optax("adamw_average", optax.adamw(0.01, weight_decay=0.01), kind=ADAMW, learning_rate=0.01, average_decay=0.9)
with_optax("adamw_clip_norm", optax.chain(optax.clip_by_global_norm(0.5), optax.adamw(0.01, weight_decay=0.01)), kind=ADAMW,
           learning_rate=0.01, clip_norm=0.5)
with_optax("sgd_clip_both", optax.chain(optax.clip(1.5), optax.clip_by_global_norm(2.0), optax.sgd(0.1)), kind=SGD,
           learning_rate=0.1, clip_value=1.5, clip_norm=2.0)
with_optax("lamb", optax.lamb(0.01, weight_decay=0.01), kind=LAMB, learning_rate=0.01)
adagrad_as_pytorch("adagrad", 0.1, 1e-10, 0.0)
adagrad_as_pytorch("adagrad_decay", 0.1, 1e-3, 0.05)
with_optax("novograd", optax.novograd(0.01, b1=0.95, b2=0.98, eps=1e-8), kind=NOVOGRAD, learning_rate=0.01)
with_optax("novograd_decay", optax.novograd(0.01, b1=0.9, b2=0.5, eps=1e-3, weight_decay=0.1), kind=NOVOGRAD,
           learning_rate=0.01, beta1=0.9, beta2=0.5, epsilon=1e-3, weight_decay=0.1)
with_optax("lion", optax.lion(0.001, b1=0.9, b2=0.99, weight_decay=0.1), kind=LION, learning_rate=0.001, weight_decay=0.1)
with_optax("adamw_cosine", optax.adamw(lambda count: 0.01 * optax.join_schedules(
    [lambda s: (s + 1) / 4, optax.cosine_decay_schedule(1.0, 14, alpha=0.1)], [4])(count), weight_decay=0.01), kind=ADAMW,
    learning_rate=0.01, schedule=COSINE, warmup_steps=4, total_steps=18, final_factor=0.1)
metadata["cases"] = ",".join(case for case in metadata if "." not in case)


def schedule(case, function, warmup=0, **options):
    function = optax.join_schedules([lambda s: (s + 1) / warmup, function], [warmup]) if warmup else function
    tensors[f"schedule.{case}"] = np.array([float(function(step)) for step in range(40)])
    for key, value in dict(options, warmup_steps=warmup).items():
        metadata[f"schedule.{case}.{key}"] = repr(value)


table = np.linspace(0.5, 2.0, 9)
schedule("constant", optax.constant_schedule(1.0), kind=CONSTANT)
schedule("constant_warmup", optax.constant_schedule(1.0), warmup=7, kind=CONSTANT)
schedule("linear", optax.linear_schedule(1.0, 0.0, 30), kind=LINEAR, total_steps=30)
schedule("linear_warmup", optax.linear_schedule(1.0, 0.2, 25), warmup=5, kind=LINEAR, total_steps=30, final_factor=0.2)
schedule("cosine", optax.cosine_decay_schedule(1.0, 33), kind=COSINE, total_steps=33)
schedule("cosine_warmup", optax.cosine_decay_schedule(1.0, 20, alpha=0.05), warmup=10, kind=COSINE, total_steps=30,
         final_factor=0.05)
schedule("step", optax.exponential_decay(1.0, 6, 0.3, staircase=True), kind=STEP, step_size=6, gamma=0.3)
schedule("step_warmup", optax.exponential_decay(1.0, 6, 0.5, staircase=True), warmup=3, kind=STEP, step_size=6, gamma=0.5)
schedule("polynomial", optax.polynomial_schedule(1.0, 0.1, 2.5, 30), kind=POLYNOMIAL, total_steps=30, final_factor=0.1,
         power=2.5)
schedule("polynomial_warmup", optax.polynomial_schedule(1.0, 0.0, 2, 24), warmup=6, kind=POLYNOMIAL, total_steps=30, power=2.0)
schedule("inverse_sqrt", lambda s: 1 / np.sqrt(max(s, 1)), kind=INVERSE_SQRT)
schedule("inverse_sqrt_warmup", lambda s: np.sqrt(8 / max(s + 8, 8)), warmup=8, kind=INVERSE_SQRT)
schedule("table", lambda s: table[min(s, 8)], kind=TABLE)
tensors["table"] = table
metadata["schedules"] = ",".join(name[len("schedule."):] for name in tensors if name.startswith("schedule."))

save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, OUTPUT, metadata=metadata)
print(f"{len(tensors)} tensors in {OUTPUT}")
