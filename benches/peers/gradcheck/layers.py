"""The forty layers of check/tests/layers in NumPy, by the same names, at the same points, with the same mistakes.

LAYERS maps a name to a function that makes (inputs, forward, backward): forward(*inputs) gives the outputs,
backward(wrong, dy, *inputs) one gradient per input. COARSE are those whose resolution is that of f32, SAME
those of which at their point the wrong one is the same function.
"""
import numpy as np

LAYERS = {}
COARSE = {"f32_tanh_coarse", "f32_linear_relu_coarse"}
SAME = {"huber_tail_unvisited", "dead_relu"}
ROOT = np.sqrt(2 / np.pi)


def layer(f):
    LAYERS[f.__name__] = f
    return f


def wave(*shape, k):
    n = int(np.prod(shape))
    return (np.sin(np.arange(1, n + 1) * k) * 1.3 + 0.1).reshape(shape)


def array(*numbers):
    return np.array(numbers, dtype=np.float64)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def each(x, f, slope):
    """A function of each element by itself."""
    return (x,), f, lambda wrong, dy, x: (dy * slope(x, wrong),)


@layer
def gelu_tanh():
    def inner(x):
        return np.tanh(ROOT * (x + 0.044715 * x**3))

    def slope(x, wrong):
        t, cubic = inner(x), 0.044715 if wrong else 3 * 0.044715
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * ROOT * (1 + cubic * x * x)

    return each(wave(3, 4, k=0.9), lambda x: 0.5 * x * (1 + inner(x)), slope)


@layer
def inplace_alias():
    def slope(x, wrong):
        return 2 * (np.maximum(x, 0) if wrong else x) + (x > 0)

    return each(wave(6, k=1.8), lambda x: x * x + np.maximum(x, 0), slope)


@layer
def stop_gradient():
    z = wave(5, k=0.9)
    stopped = z * 0.5
    return each(z, lambda z: (z - stopped) ** 2, lambda z, wrong: 2 * (z - stopped) * (0.5 if wrong else 1))


def huber(x):
    def value(x):
        return np.where(abs(x) < 1, 0.5 * x * x, abs(x) - 0.5)

    return each(x, value, lambda x, wrong: np.where((abs(x) < 1) | wrong, x, np.sign(x)))


@layer
def huber_only_tail():
    return huber(array(0.2, -0.4, 0.7, 3.0))


@layer
def huber_tail_unvisited():
    return huber(array(0.2, -0.4, 0.7))


@layer
def dead_relu():
    return each(array(-1, -2, -0.5), lambda x: np.maximum(x, 0), lambda x, wrong: 1.0 * ((x > 0) & (not wrong)))


@layer
def floor_straight_through():
    return each(array(0.3, 2.7), np.floor, lambda x, wrong: 1.0 * wrong)


@layer
def attention_scale_twice():
    scale = 1 / np.sqrt(3)

    def backward(wrong, dy, q, k, v):
        p = softmax(q @ k.T * scale)
        dp = dy @ v.T
        ds = p * (dp - (dp * p).sum(1, keepdims=True)) * scale
        return ds @ k * (scale if wrong else 1), ds.T @ q, p.T @ dy

    at = wave(4, 3, k=0.7), wave(4, 3, k=1.3), wave(4, 3, k=2.1)
    return at, lambda q, k, v: softmax(q @ k.T * scale) @ v, backward


@layer
def gather_repeated():
    ids = [2, 0, 2, 1]

    def backward(wrong, dy, table):
        g = np.zeros_like(table)
        for row, i in enumerate(ids):
            g[i] = dy[row] if wrong else g[i] + dy[row]
        return (g,)

    return (wave(4, 3, k=0.8),), lambda table: table[ids], backward


@layer
def broadcast_bias_not_summed():
    at = wave(4, 3, k=0.8), wave(3, k=0.3)
    return at, lambda x, b: x + b, lambda wrong, dy, x, b: (dy, dy if wrong else dy.sum(0))


@layer
def weight_tied():
    def backward(wrong, dy, x, w):
        h = np.tanh(x @ w)
        dh = dy @ w * (1 - h * h)
        return dh @ w.T, x.T @ dh + (0 if wrong else dy.T @ h)

    return (wave(2, 3, k=0.9), wave(3, 3, k=1.9)), lambda x, w: np.tanh(x @ w) @ w.T, backward


@layer
def rope():
    angle = np.arange(3)[:, None] * np.array([1, 0.01])

    def rotated(x, sign):
        sin, cos = np.sin(sign * angle), np.cos(angle)
        even, odd = x[:, ::2], x[:, 1::2]
        return np.stack([even * cos - odd * sin, even * sin + odd * cos], -1).reshape(3, 4)

    at = (wave(3, 4, k=0.9),)
    return at, lambda x: rotated(x, 1), lambda wrong, dy, x: (rotated(dy, 1 if wrong else -1),)


@layer
def lstm_cell():
    def parts(z, c):
        i, g, f, o = sigmoid(z[0]), np.tanh(z[1]), sigmoid(z[2]), sigmoid(z[3])
        new = i * g + f * c
        return i, g, f, o, new, np.tanh(new)

    def forward(z, c):
        _, _, _, o, new, t = parts(z, c)
        return np.stack([new, o * t])

    def backward(wrong, dy, z, c):
        i, g, f, o, _, t = parts(z, c)
        d = (0 if wrong else dy[0]) + dy[1] * o * (1 - t * t)
        dz = [d * g * i * (1 - i), d * i * (1 - g * g), d * c * f * (1 - f), dy[1] * t * o * (1 - o)]
        return np.stack(dz), d * f

    return (wave(4, 3, k=0.9), wave(3, k=1.9)), forward, backward


@layer
def conv_transpose1d_padding():
    n, k, stride, padding = 5, 4, 2, 1
    outputs = (n - 1) * stride + k - 2 * padding
    terms = [(i, j, i * stride + j - padding) for i in range(n) for j in range(k)]
    terms = [t for t in terms if 0 <= t[2] < outputs]

    def forward(x, w):
        y = np.zeros(outputs)
        for i, j, to in terms:
            y[to] += x[i] * w[j]
        return y

    def backward(wrong, dy, x, w):
        dx, dw = np.zeros(n), np.zeros(k)
        for i, j, to in terms:
            source = to + padding if wrong else to
            dx[i] += dy[source] * w[j] if source < outputs else 0
            dw[j] += dy[to] * x[i]
        return dx, dw

    return (wave(n, k=1.1), wave(k, k=0.6)), forward, backward


@layer
def upsample_align_corners():
    n, outputs = 5, 8

    def matrix(aligned):
        m = np.zeros((outputs, n))
        for i in range(outputs):
            at = i * (n - 1) / (outputs - 1) if aligned else max((i + 0.5) * n / outputs - 0.5, 0)
            low = int(at)
            m[i, low] += 1 - (at - low)
            m[i, min(low + 1, n - 1)] += at - low
        return m

    return (wave(n, k=1.1),), lambda x: matrix(False) @ x, lambda wrong, dy, x: (matrix(wrong).T @ dy,)


@layer
def last_column():
    def backward(wrong, dy, x):
        g = np.zeros_like(x)
        g[:, :-1] += dy * x[:, 1:]
        right = dy * x[:, :-1]
        right[19, 18] *= not wrong
        g[:, 1:] += right
        return (g,)

    return (wave(20, 20, k=0.37),), lambda x: x[:, 1:] * x[:, :-1], backward


@layer
def nonstandard_layout():
    def backward(wrong, dy, x):
        return ((x.T.reshape(3, 4) if wrong else x) * dy * 2,)

    return (wave(3, 4, k=0.9),), lambda x: x * x, backward


def max_of_rows(x, near, to_all):
    def backward(wrong, dy, x):
        close = x.max(1, keepdims=True) - x <= near(wrong)
        first = np.arange(x.shape[1]) == close.argmax(1)[:, None]
        return ((close if to_all(wrong) else first) * dy[:, None],)

    return (x,), lambda x: x.max(1), backward


@layer
def max_pool_ties():
    x = np.array([[1, 2, 2, 0.5], [3, 3, 3, 3]])
    return max_of_rows(x, lambda wrong: 0, lambda wrong: wrong)


@layer
def max_is_close():
    return max_of_rows(np.array([[1, 2, 1.995, 0.5]]), lambda wrong: 1e-2 if wrong else 1e-12, lambda wrong: True)


def absolute(at_zero):
    def slope(x, wrong):
        return np.where(x == 0, at_zero if wrong else 0, np.sign(x))

    return each(array(0, 1, -1), np.abs, slope)


@layer
def abs_at_0_slope7():
    return absolute(7)


@layer
def abs_at_0_nan():
    return absolute(np.nan)


@layer
def norm_zero_gradient():
    def length(x):
        return np.sqrt((x * x).sum())

    return (array(0.3, 0.4),), length, lambda wrong, dy, x: (x * (0 if wrong else dy / length(x)),)


@layer
def cross_entropy_ignore():
    rows, targets = [0, 2, 3], [1, 0, 3]

    def backward(wrong, dy, z):
        g = softmax(z)
        g[rows, targets] -= 1
        g[1] = 0
        return (g * dy / (4 if wrong else 3),)

    return (wave(4, 5, k=2.3),), lambda z: -np.log(softmax(z)[rows, targets]).sum() / 3, backward


@layer
def upstream_ignored():
    at = (wave(4, k=0.9),)
    return at, lambda x: np.log(np.exp(x).sum()), lambda wrong, dy, x: (softmax(x) * (1 if wrong else dy),)


@layer
def prod_with_zero():
    def backward(wrong, dy, x):
        if wrong:
            slope = [0 if n == 0 else x.prod() / n for n in x]
        else:
            slope = [np.delete(x, i).prod() for i in range(3)]
        return (array(*slope) * dy,)

    return (array(2, 0, 3),), lambda x: x.prod(), backward


@layer
def batch_norm():
    def columns(x):
        centred = x - x.mean(0)
        rstd = 1 / np.sqrt((centred**2).mean(0) + 1e-5)
        return centred * rstd, rstd

    def backward(wrong, dy, x, gamma, beta):
        h, rstd = columns(x)
        dh = dy if wrong else dy * gamma
        dx = (dh - dh.mean(0) - h * (dh * h).mean(0)) * rstd
        return dx, (dy * h).sum(0), dy.sum(0)

    at = wave(6, 3, k=1.7), array(1, 0.7, -0.4), array(0.1, 0.2, 0.3)
    return at, lambda x, gamma, beta: columns(x)[0] * gamma + beta, backward


def layer_norm():
    def normalised(x, outside):
        centred = x - x.mean(1, keepdims=True)
        variance = (centred**2).mean(1, keepdims=True)
        rstd = 1 / (np.sqrt(variance) + 1e-5 if outside else np.sqrt(variance + 1e-5))
        return centred * rstd, rstd

    def backward(wrong, dy, x):
        h, rstd = normalised(x, wrong)
        return ((dy - dy.mean(1, keepdims=True) - h * (dy * h).mean(1, keepdims=True)) * rstd,)

    return (wave(4, 5, k=1.7),), lambda x: normalised(x, False)[0], backward


LAYERS["layer_norm_eps1e-5"] = layer_norm


@layer
def variance_unbiased():
    def backward(wrong, dy, x):
        return (2 * (x - x.mean()) / (50 if wrong else 49) * dy,)

    return (wave(50, k=0.9),), lambda x: ((x - x.mean()) ** 2).sum() / 49, backward


def tanh_in_f32():
    def value(x):
        return np.tanh(x.astype(np.float32)).astype(np.float64)

    return each(wave(6, k=1.1), value, lambda x, wrong: (1 - value(x) ** 2) * (1.01 if wrong else 1))


LAYERS["f32_tanh"] = LAYERS["f32_tanh_coarse"] = tanh_in_f32


@layer
def f32_linear_relu_coarse():
    single, double = np.float32, np.float64

    def product(x, w):
        return x.astype(single) @ w.astype(single)

    def backward(wrong, dy, x, w):
        d = (dy * (product(x, w) > 0)).astype(single)
        dw = x.astype(single).T @ d
        if wrong:
            dw[3, 2] *= 1.05
            dw[9] = 0
        return (d @ w.astype(single).T).astype(double), dw.astype(double)

    at = wave(4, 200, k=1.1), wave(200, 5, k=0.77)
    return at, lambda x, w: np.maximum(product(x, w), 0).astype(double), backward


def two_outputs(large):
    def forward(x):
        return array(large * np.sin(x[0]) * np.exp(x[1]), np.cos(x[0]) * x[1])

    def backward(wrong, dy, x):
        big, small = dy[0] * large * np.exp(x[1]), dy[1] * (1.5 if wrong else 1)
        return (array(big * np.cos(x[0]) - small * np.sin(x[0]) * x[1], big * np.sin(x[0]) + small * np.cos(x[0])),)

    return (array(0.7, -0.3),), forward, backward


for size in ("1e4", "1e6", "1e8", "1e10"):
    LAYERS[f"two_outputs_{size}"] = lambda large=float(size): two_outputs(large)


@layer
def one_small_of_1e5():
    n = 100_000
    size = 10.0 ** (-6 * (np.arange(n) * 7919 % n) / n)

    def backward(wrong, dy, x):
        g = size * np.cos(x) * dy
        if wrong:
            g[77_777] = 0
        return (g,)

    return (wave(n, k=0.37),), lambda x: size * np.sin(x), backward


def tiny(size, shared):
    def forward(x, s):
        large, small = np.exp(x[0]) * x[1], size * np.sin(s[0]) * s[1]
        return array(large + small) if shared else array(large, small)

    def backward(wrong, dy, x, s):
        last = dy[-1] * (-size if wrong else size)
        dx = array(dy[0] * np.exp(x[0]) * x[1], dy[0] * np.exp(x[0]))
        return dx, array(last * np.cos(s[0]) * s[1], last * np.sin(s[0]))

    return (array(0.7, 0.2), array(0.4, 0.9)), forward, backward


LAYERS["tiny_tensor_1e-14"] = lambda: tiny(1e-14, False)
LAYERS["tiny_tensor_1e-14_shared_output"] = lambda: tiny(1e-14, True)
LAYERS["tiny_tensor_1e-8_shared_output"] = lambda: tiny(1e-8, True)


@layer
def mixed_scale_tensor():
    def slope(x, wrong):
        return np.where((x == 0.5) & wrong, 1, 2) * x / (1 + x * x)

    return each(array(1e8, 1, 0.5, -3, 1e-8), lambda x: np.log(1 + x * x), slope)
