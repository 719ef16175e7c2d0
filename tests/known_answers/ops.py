"""Known answers of the ops, forward and gradients: python3 ops.py OUTPUT.safetensors

Each case is a function of JAX (jax.numpy, jax.nn, jax.scipy, optax) in double on FP32 inputs; the gradients are those of
sum(output * weights) with random weights. Exits with 77 where a package is missing.
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

random = np.random.default_rng(5)
tensors = {}
metadata = {}


def real(*shape, low=-2.0, high=2.0):
    return random.uniform(low, high, size=shape).astype(np.float32)


def whole(*shape, below):
    return random.integers(below, size=shape).astype(np.int32)


def case(name, function, **inputs):
    """`function` takes the inputs by name, where __ stands for a dot; real ones are differentiated."""
    trained = {key: jnp.asarray(value, jnp.float64) for key, value in inputs.items() if value.dtype == np.float32}
    fixed = {key: jnp.asarray(value) for key, value in inputs.items() if key not in trained}
    output = function(**trained, **fixed)
    weights = real(*output.shape)
    gradients = jax.grad(lambda t: jnp.sum(function(**t, **fixed) * jnp.asarray(weights, jnp.float64)))(trained)
    names = [key.replace("__", ".") for key in inputs]
    for key, value in inputs.items():
        tensors[f"{name}/in/{key.replace('__', '.')}"] = value
    for key, value in gradients.items():
        tensors[f"{name}/gradient/{key.replace('__', '.')}"] = np.asarray(value)
    tensors[f"{name}/out"] = np.asarray(output)
    tensors[f"{name}/weights"] = weights
    metadata[name] = ",".join(names)


# Matrix multiply.
case("matmul", lambda a, b: a @ b, a=real(7, 13), b=real(13, 5))
case("matmul transposed a", lambda a, b: a.T @ b, a=real(13, 7), b=real(13, 5))
case("matmul transposed b", lambda a, b: a @ b.T, a=real(7, 13), b=real(5, 13))
case("matmul both transposed", lambda a, b: a.T @ b.T, a=real(13, 7), b=real(5, 13))
case("matmul batched", lambda a, b: jnp.einsum("bhik,bhkj->bhij", a, b), a=real(2, 3, 4, 17), b=real(2, 3, 17, 6))
case("matmul broadcast", lambda a, b: jnp.einsum("bik,kj->bij", a, b), a=real(3, 4, 9), b=real(9, 6))
case("linear", lambda x, fc__weight, fc__bias: jnp.einsum("bti,oi->bto", x, fc__weight) + fc__bias, x=real(2, 5, 19),
     fc__weight=real(11, 19), fc__bias=real(11))
case("linear without bias", lambda x, fc__weight: x @ fc__weight.T, x=real(6, 19), fc__weight=real(33, 19))

# Element by element.
case("add", lambda a, b: jnp.add(a, b), a=real(4, 1, 5), b=real(3, 1))
case("sub", lambda a, b: jnp.subtract(a, b), a=real(3, 5), b=real(5))
case("mul", lambda a, b: jnp.multiply(a, b), a=real(4, 3, 5), b=real(3, 1))
case("div", lambda a, b: jnp.divide(a, b), a=real(4, 3, 5), b=real(4, 1, 5, low=0.5))
case("scale", lambda x: 1.5 * x - 0.25, x=real(3, 37))
case("relu", lambda x: jax.nn.relu(x), x=np.concatenate([real(3, 37), np.zeros((3, 2), np.float32)], axis=1))
case("leaky relu", lambda x: jax.nn.leaky_relu(x, 0.1), x=real(3, 37))
case("gelu", lambda x: jax.nn.gelu(x, approximate=False), x=real(3, 37, low=-6, high=6))
case("gelu tanh", lambda x: jax.nn.gelu(x, approximate=True), x=real(3, 37, low=-6, high=6))
case("silu", lambda x: jax.nn.silu(x), x=real(3, 37, low=-6, high=6))
case("sigmoid", lambda x: jax.nn.sigmoid(x), x=real(3, 37, low=-6, high=6))
case("tanh", lambda x: jnp.tanh(x), x=real(3, 37, low=-6, high=6))
case("exp", lambda x: jnp.exp(x), x=real(3, 37))
case("log", lambda x: jnp.log(x), x=real(3, 37, low=0.1, high=9))
case("sqrt", lambda x: jnp.sqrt(x), x=real(3, 37, low=0.1, high=9))
case("square", lambda x: jnp.square(x), x=real(3, 37))
case("clamp", lambda x: jnp.clip(x, -1.0, 0.5), x=real(3, 37))
case("stop gradient", lambda x: x * jax.lax.stop_gradient(x), x=real(3, 37))

# Softmax, norms, attention, embedding.
case("softmax", lambda x: jax.nn.softmax(x, axis=-1), x=real(5, 33, low=-5, high=5))
case("softmax axis 0", lambda x: jax.nn.softmax(x, axis=0), x=real(9, 7))
case("log softmax", lambda x: jax.nn.log_softmax(x, axis=-1), x=real(5, 33, low=-5, high=5))
case("log softmax axis 1", lambda x: jax.nn.log_softmax(x, axis=1), x=real(3, 9, 4))
case("layer norm", lambda x, norm__weight, norm__bias: jax.nn.standardize(x, axis=-1, epsilon=1e-5) * norm__weight + norm__bias,
     x=real(4, 3, 35), norm__weight=real(35), norm__bias=real(35))
case("layer norm plain", lambda x: jax.nn.standardize(x, axis=-1, epsilon=1e-3), x=real(6, 16))
case("rms norm", lambda x, norm__weight: x * jax.lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + 1e-5) * norm__weight,
     x=real(4, 3, 35), norm__weight=real(35))


def attention(q, k, v, heads, kv_heads, **options):
    def split(x, count):
        return x.reshape(x.shape[0], x.shape[1], count, -1)

    out = jax.nn.dot_product_attention(split(q, heads), split(k, kv_heads), split(v, kv_heads), implementation="xla", **options)
    return out.reshape(q.shape)


def three(batch, queries, keys, width, kv_width=None):
    kv_width = kv_width or width
    return {"q": real(batch, queries, width), "k": real(batch, keys, kv_width), "v": real(batch, keys, kv_width)}


case("attention", lambda q, k, v: attention(q, k, v, 3, 3), **three(2, 5, 9, 24))
case("attention causal", lambda q, k, v: attention(q, k, v, 2, 2, is_causal=True), **three(2, 19, 19, 16))
case("attention scaled", lambda q, k, v: attention(q, k, v, 2, 2, scale=0.2), **three(1, 7, 7, 16))
mask = (random.random((2, 2, 6, 11)) < 0.6).astype(np.uint8)
mask[..., 0] = 1  # every row sees a key
case("attention mask", lambda q, k, v, mask: attention(q, k, v, 2, 2, mask=mask != 0), **three(2, 6, 11, 16), mask=mask)
case("attention mask of all heads", lambda q, k, v, mask: attention(q, k, v, 2, 2, mask=(mask != 0)[None, None]),
     **three(2, 6, 11, 16), mask=mask[0, 0].copy())
case("attention lengths", lambda q, k, v, lengths: attention(q, k, v, 2, 2, key_value_seq_lengths=lengths), **three(3, 6, 11, 16),
     lengths=np.array([11, 4, 1], np.int32))
case("attention grouped", lambda q, k, v: attention(q, k, v, 6, 2, is_causal=True), **three(2, 10, 10, 48, 16))
case("embedding", lambda table__weight, indices: table__weight[indices], table__weight=real(9, 12), indices=whole(4, 6, below=9))
case("tied embedding", lambda table__weight, indices: jnp.tanh(table__weight[indices]) @ table__weight.T,
     table__weight=real(9, 12), indices=whole(4, 6, below=9))

# Shape.
case("reshape", lambda x: jnp.reshape(x, (6, 10)), x=real(3, 4, 5))
case("transpose", lambda x: jnp.transpose(x, (2, 0, 1)), x=real(3, 4, 5))
case("transpose reversed", lambda x: jnp.transpose(x), x=real(3, 4, 5))
case("slice", lambda x: x[:, 2:-1], x=real(3, 7, 5))
case("concat", lambda a, b, c: jnp.concatenate([a, b, c], axis=1), a=real(3, 2, 4), b=real(3, 5, 4), c=real(3, 1, 4))
case("gather", lambda x, indices: jnp.take(x, indices, axis=1), x=real(3, 7, 4), indices=whole(2, 5, below=7))
case("pad", lambda x: jnp.pad(x, ((0, 0), (2, 1), (0, 0)), constant_values=0.5), x=real(3, 4, 5))

# Reductions.
case("sum", lambda x: jnp.sum(x), x=real(5, 4, 3))
case("sum axes", lambda x: jnp.sum(x, axis=(0, 2)), x=real(5, 4, 3))
case("sum axis kept", lambda x: jnp.sum(x, axis=1, keepdims=True), x=real(5, 4, 3))
case("mean", lambda x: jnp.mean(x), x=real(5, 4, 3))
case("mean axis", lambda x: jnp.mean(x, axis=-1), x=real(5, 4, 3))
case("max axis", lambda x: jnp.max(x, axis=1), x=real(5, 8, 3))
# The gradient of equal elements goes to the first: jnp.max shares it, argmax says which is first.
case("max ties", lambda x: jnp.take_along_axis(x, jnp.argmax(x, axis=-1)[..., None], axis=-1),
     x=whole(5, 8, below=3).astype(np.float32))

# Losses.


def cross_entropy(logits, labels, smoothing=0.0, ignore=None, total=jnp.mean):
    classes = logits.shape[-1]
    targets = optax.smooth_labels(jax.nn.one_hot(labels, classes, dtype=logits.dtype), smoothing)
    rows = optax.softmax_cross_entropy(logits, targets)
    return total(rows) if ignore is None else total(rows, where=labels != ignore)


case("cross-entropy", lambda x, labels: cross_entropy(x, labels), x=real(4, 6, 17), labels=whole(4, 6, below=17))
case("cross-entropy smoothed", lambda x, labels: cross_entropy(x, labels, 0.1), x=real(12, 17), labels=whole(12, below=17))
case("cross-entropy ignoring", lambda x, labels: cross_entropy(x, labels, 0.1, 3), x=real(12, 5),
     labels=np.array([0, 3, 1, 3, 3, 2, 4, 0, 1, 3, 2, 4], np.int32))
case("cross-entropy sum", lambda x, labels: cross_entropy(x, labels, total=jnp.sum), x=real(12, 17), labels=whole(12, below=17))
case("mse", lambda x, target: jnp.mean(optax.squared_error(x, target)), x=real(5, 7), target=real(5, 7))
case("mse sum", lambda x, target: jnp.sum(optax.squared_error(x, target)), x=real(5, 7), target=real(5, 7))
same = real(5, 7)
# |d| as d sign(d): its derivative at 0 is 0, as the library's, where JAX takes 1 for that of abs.
case("l1", lambda x, target: jnp.mean((x - target) * jnp.sign(x - target)), x=same, target=np.where(same > 1, same, real(5, 7)))
case("bce", lambda x, target: jnp.mean(optax.sigmoid_binary_cross_entropy(x, target)),
     x=real(5, 7, low=-6, high=6), target=real(5, 7, low=0, high=1))

metadata["cases"] = ",".join(metadata)
# (ascontiguousarray makes vectors of scalars.)
save_file({name: np.ascontiguousarray(tensor).reshape(np.shape(tensor)) for name, tensor in tensors.items()}, OUTPUT,
          metadata=metadata)
print(f"{len(metadata) - 1} cases in {OUTPUT}")
