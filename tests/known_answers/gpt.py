"""A 20-step training curve of a small GPT: python3 gpt.py OUTPUT.safetensors

Network, loss, gradients and AdamW are those of JAX and optax, in double, so that the answer is the exact one for the purposes of
a comparison in FP32. Exits with 77 where a package is missing.
"""

import os
import sys

OUTPUT = sys.argv[1]
if os.path.exists(OUTPUT):
    os.remove(OUTPUT)
try:
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax
    from safetensors.numpy import save_file
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

jax.config.update("jax_enable_x64", True)

STEPS, BATCH, CONTEXT, VOCABULARY, WIDTH, HEADS, LAYERS = 20, 4, 16, 64, 32, 4, 2
LEARNING_RATE, EPSILON, DECAY = 3e-3, 1e-4, 0.1


def initial(random):
    """Weights and biases all different from zero, so that a transposed or forgotten one shows."""
    shapes = {"byte.weight": (VOCABULARY, WIDTH), "position.weight": (CONTEXT, WIDTH)}
    for i in range(LAYERS):
        shapes |= {
            f"block{i}.norm1.weight": (WIDTH,), f"block{i}.norm1.bias": (WIDTH,),
            f"block{i}.attn.in_proj_weight": (3 * WIDTH, WIDTH), f"block{i}.attn.in_proj_bias": (3 * WIDTH,),
            f"block{i}.attn.out_proj.weight": (WIDTH, WIDTH), f"block{i}.attn.out_proj.bias": (WIDTH,),
            f"block{i}.norm2.weight": (WIDTH,), f"block{i}.norm2.bias": (WIDTH,),
            f"block{i}.fc1.weight": (4 * WIDTH, WIDTH), f"block{i}.fc1.bias": (4 * WIDTH,),
            f"block{i}.fc2.weight": (WIDTH, 4 * WIDTH), f"block{i}.fc2.bias": (WIDTH,),
        }
    shapes |= {"norm.weight": (WIDTH,), "norm.bias": (WIDTH,), "head.weight": (VOCABULARY, WIDTH)}
    weights = {}
    for name, shape in shapes.items():
        mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        weights[name] = (mean + 0.1 * random.normal(size=shape)).astype(np.float32)
    return weights


def tokens(random):
    """Sequences with something to learn: most tokens follow from the one before."""
    text = np.zeros((STEPS, BATCH, CONTEXT + 1), np.int32)
    text[..., 0] = random.integers(VOCABULARY, size=(STEPS, BATCH))
    for t in range(CONTEXT):
        surprise = random.integers(VOCABULARY, size=(STEPS, BATCH))
        text[..., t + 1] = np.where(random.random((STEPS, BATCH)) < 0.2, surprise, (5 * text[..., t] + 7) % VOCABULARY)
    return text[..., :-1].copy(), text[..., 1:].copy()


def norm(x, w, name):
    return jax.nn.standardize(x, axis=-1, epsilon=1e-5) * w[name + ".weight"] + w[name + ".bias"]


def attention(x, w, name):
    parts = x @ w[name + ".in_proj_weight"].T + w[name + ".in_proj_bias"]
    q, k, v = (part.reshape(BATCH, CONTEXT, HEADS, WIDTH // HEADS) for part in jnp.split(parts, 3, axis=-1))
    y = jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation="xla").reshape(x.shape)
    return y @ w[name + ".out_proj.weight"].T + w[name + ".out_proj.bias"]


def loss_of(w, x, y):
    h = w["byte.weight"][x] + w["position.weight"]
    for i in range(LAYERS):
        h = h + attention(norm(h, w, f"block{i}.norm1"), w, f"block{i}.attn")
        inner = norm(h, w, f"block{i}.norm2") @ w[f"block{i}.fc1.weight"].T + w[f"block{i}.fc1.bias"]
        h = h + jax.nn.gelu(inner, approximate=True) @ w[f"block{i}.fc2.weight"].T + w[f"block{i}.fc2.bias"]
    logits = norm(h, w, "norm") @ w["head.weight"].T
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


random = np.random.default_rng(2)
weights = initial(random)
x, y = tokens(random)
optimizer = optax.adamw(LEARNING_RATE, b1=0.9, b2=0.999, eps=EPSILON, weight_decay=DECAY)
params = {name: jnp.asarray(weight, jnp.float64) for name, weight in weights.items()}
state = optimizer.init(params)


@jax.jit
def train(params, state, x, y):
    loss, gradients = jax.value_and_grad(loss_of)(params, x, y)
    updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, loss, gradients


losses = []
tensors = dict(weights, x=x, y=y)
for step in range(STEPS):
    params, state, loss, gradients = train(params, state, x[step], y[step])
    losses.append(float(loss))
    if step == 0:
        tensors |= {f"gradient.{name}": np.asarray(gradient) for name, gradient in gradients.items()}
tensors |= {f"final.{name}": np.asarray(weight) for name, weight in params.items()}
tensors["losses"] = np.array(losses)
save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, OUTPUT,
          metadata={"learning_rate": repr(LEARNING_RATE), "epsilon": repr(EPSILON), "weight_decay": repr(DECAY)})
print(f"{len(tensors)} tensors in {OUTPUT}; loss from {losses[0]:.4f} to {losses[-1]:.4f}")
