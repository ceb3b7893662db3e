"""ProGAN's and StyleGAN's published TensorFlow networks, in plain PyTorch on TensorFlow's own variables.

Karras et al., 2018 and 2019. `v` has the variables by their names: kernels [k, k, I, O], matrices [I, O], and ProGAN's
fused up-kernels [k, k, O, I], as tf.nn.conv2d_transpose takes them.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

ROOT2 = math.sqrt(2)


def lrelu(x):
    return torch.maximum(x, 0.2 * x)


def normalised(x):
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def dense(v, name, x, gain=ROOT2, lrmul=1.0):
    w = v[f"{name}/weight"]
    return x.flatten(1) @ (w * gain / math.sqrt(w.shape[0]) * lrmul)


def bias(v, name, x, lrmul=1.0):
    b = v[f"{name}/bias"] * lrmul
    return x + (b if x.ndim == 2 else b[None, :, None, None])


def scaled(w, gain=ROOT2):
    """He's factor of a kernel [k, k, I, O]."""
    return w * gain / math.sqrt(w.shape[0] * w.shape[1] * w.shape[2])


def correlate(x, w, stride=1, padding="same"):
    """tf.nn.conv2d with a kernel [k, k, I, O]."""
    padding = w.shape[0] // 2 if padding == "same" else padding
    return F.conv2d(x, w.permute(3, 2, 0, 1), stride=stride, padding=padding)


def shifts(w):
    """The sum of the four shifts of a kernel [3, 3, ...]: [4, 4, ...]."""
    w = F.pad(w, [0, 0, 0, 0, 1, 1, 1, 1])
    return w[1:, 1:] + w[:-1, 1:] + w[1:, :-1] + w[:-1, :-1]


def up(x):
    return F.interpolate(x, scale_factor=2, mode="nearest")


def fused_up(x, w):
    """tf.nn.conv2d_transpose with a kernel [k, k, O, I], stride 2, 'SAME'."""
    return F.conv_transpose2d(x, shifts(w).permute(3, 2, 0, 1), stride=2, padding=1)


def fused_down(x, w):
    return correlate(x, shifts(w) * 0.25, stride=2, padding=1)


def statistics(x, group):
    n = len(x)
    group = min(group, n)
    y = x.reshape(group, -1, *x.shape[1:])
    y = (y - y.mean(0)).square().mean(0).add(1e-8).sqrt().mean([1, 2, 3], keepdim=True)
    return torch.cat([x, y.repeat(group, 1, 1, 1).expand(-1, 1, *x.shape[2:])], 1)


def resolutions(last):
    return [2**i for i in range(2, last.bit_length())]


def level(res, last):
    return int(math.log2(last / res))


def to_rgb(v, prefix, x, res, last):
    name = f"{prefix}ToRGB_lod{level(res, last)}"
    return bias(v, name, correlate(x, scaled(v[f"{name}/weight"], 1)))


def merged(images, lod):
    """The image at a level of detail, at the size that it has: the newest of the images lerped to the older one."""
    n = int(lod)
    if lod == n:
        return images[n]
    return images[n] + (up(images[n + 1]) - images[n]) * (lod - n)


def progan_g(v, z, c, last, fused, lod=0.0):
    x = normalised(torch.cat([z, c], 1))
    x = dense(v, "4x4/Dense", x, ROOT2 / 4).reshape(len(z), -1, 4, 4)
    x = normalised(lrelu(bias(v, "4x4/Dense", x)))
    x = normalised(lrelu(bias(v, "4x4/Conv", correlate(x, scaled(v["4x4/Conv/weight"])))))
    images = {level(4, last): to_rgb(v, "", x, 4, last)}
    for res in resolutions(last)[1:]:
        if fused:
            name = f"{res}x{res}/Conv0_up"
            w = v[f"{name}/weight"]  # [k, k, O, I]
            x = fused_up(x, w * ROOT2 / math.sqrt(9 * w.shape[3]))
        else:
            name = f"{res}x{res}/Conv0"
            x = correlate(up(x), scaled(v[f"{name}/weight"]))
        x = normalised(lrelu(bias(v, name, x)))
        name = f"{res}x{res}/Conv1"
        x = normalised(lrelu(bias(v, name, correlate(x, scaled(v[f"{name}/weight"])))))
        images[level(res, last)] = to_rgb(v, "", x, res, last)
    return merged(images, lod)


def growing_d(v, img, c, last, fused, group, blurred):
    """The discriminator of both at full resolution."""
    x = lrelu(bias(v, "FromRGB_lod0", correlate(img, scaled(v["FromRGB_lod0/weight"]))))
    for res in reversed(resolutions(last)[1:]):
        name = f"{res}x{res}/Conv0"
        x = lrelu(bias(v, name, correlate(x, scaled(v[f"{name}/weight"]))))
        if blurred:
            name = f"{res}x{res}/Conv1_down"
            w = scaled(v[f"{name}/weight"])
            x = fused_down(blur(x), w) if fused else F.avg_pool2d(correlate(blur(x), w), 2)
            x = lrelu(bias(v, name, x))
        elif fused:
            name = f"{res}x{res}/Conv1_down"
            x = lrelu(bias(v, name, fused_down(x, scaled(v[f"{name}/weight"]))))
        else:
            name = f"{res}x{res}/Conv1"
            x = F.avg_pool2d(lrelu(bias(v, name, correlate(x, scaled(v[f"{name}/weight"])))), 2)
    x = statistics(x, group)
    x = lrelu(bias(v, "4x4/Conv", correlate(x, scaled(v["4x4/Conv/weight"]))))
    x = lrelu(bias(v, "4x4/Dense0", dense(v, "4x4/Dense0", x)))
    x = bias(v, "4x4/Dense1", dense(v, "4x4/Dense1", x, 1))
    if not blurred:
        return x[:, :1]
    return (x * c).sum(1, keepdim=True) if c.shape[1] else x


def blur(x):
    row = torch.tensor([1.0, 2.0, 1.0])
    f = (row[:, None] * row / 16).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(x, f, padding=1, groups=x.shape[1])


def stylegan_mapping(v, z, c, layers):
    x = torch.cat([z, c @ v["mapping/LabelConcat/weight"]], 1) if c.shape[1] else z
    x = normalised(x)
    for i in range(layers):
        name = f"mapping/Dense{i}"
        x = lrelu(bias(v, name, dense(v, name, x, lrmul=0.01), lrmul=0.01))
    return x


def epilogue(v, name, noise, x, w):
    x = x + v[f"synthesis/noise{noise}"] * v[f"{name}/Noise/weight"][None, :, None, None]
    x = lrelu(bias(v, name, x))
    x = x - x.mean([2, 3], keepdim=True)
    x = x * (x.square().mean([2, 3], keepdim=True) + 1e-8).rsqrt()
    style = bias(v, f"{name}/StyleMod", dense(v, f"{name}/StyleMod", w, 1)).reshape(len(w), 2, -1, 1, 1)
    return x * (style[:, 0] + 1) + style[:, 1]


def stylegan_g(v, z, c, last, layers, fused, psi=1.0, lod=0.0):
    """`fused` of a resolution: whether it doubles the size by one transposed convolution."""
    w = stylegan_mapping(v, z, c, layers)
    w = v["dlatent_avg"] + (w - v["dlatent_avg"]) * psi
    x = v["synthesis/4x4/Const/const"].expand(len(z), -1, -1, -1)
    images = {}
    for i, res in enumerate(resolutions(last)):
        block = f"synthesis/{res}x{res}"
        if res == 4:
            x = epilogue(v, f"{block}/Const", 0, x, w)
            name = f"{block}/Conv"
        else:
            k = scaled(v[f"{block}/Conv0_up/weight"])
            x = fused_up(x, k.transpose(2, 3)) if fused(res) else correlate(up(x), k)
            x = epilogue(v, f"{block}/Conv0_up", 2 * i, blur(x), w)
            name = f"{block}/Conv1"
        x = epilogue(v, name, 2 * i + 1, correlate(x, scaled(v[f"{name}/weight"])), w)
        images[level(res, last)] = to_rgb(v, "synthesis/", x, res, last)
    return merged(images, lod)


def conv_shapes(name, i, o, k=3):
    return {f"{name}/weight": [k, k, i, o], f"{name}/bias": [o]}


def dense_shapes(name, i, o):
    return {f"{name}/weight": [i, o], f"{name}/bias": [o]}


def progan_shapes(last, c_dim=0, z=6, base=64, most=12, img_channels=3, fused=True):
    """The shapes of every variable of (G, D)."""

    def width(res):
        return min(base // res, most)

    G = {"4x4/Dense/weight": [z + c_dim, 16 * width(4)], "4x4/Dense/bias": [width(4)]}
    G |= conv_shapes("4x4/Conv", width(4), width(4))
    for res in resolutions(last):
        G |= conv_shapes(f"ToRGB_lod{level(res, last)}", width(res), img_channels, 1)
        if res > 4:
            name = f"{res}x{res}/Conv0{'_up' if fused else ''}"
            G |= conv_shapes(name, width(res // 2), width(res))
            if fused:
                G[f"{name}/weight"] = [3, 3, width(res), width(res // 2)]
            G |= conv_shapes(f"{res}x{res}/Conv1", width(res), width(res))
    return G, growing_d_shapes(last, width, 1 + c_dim, img_channels, "Conv1_down" if fused else "Conv1")


def growing_d_shapes(last, width, outputs, img_channels, down="Conv1_down"):
    D = conv_shapes("4x4/Conv", width(4) + 1, width(4)) | dense_shapes("4x4/Dense0", 16 * width(4), width(2))
    D |= dense_shapes("4x4/Dense1", width(2), outputs)
    for res in resolutions(last):
        D |= conv_shapes(f"FromRGB_lod{level(res, last)}", img_channels, width(res), 1)
        if res > 4:
            D |= conv_shapes(f"{res}x{res}/Conv0", width(res), width(res))
            D |= conv_shapes(f"{res}x{res}/{down}", width(res), width(res // 2))
    return D


def stylegan_shapes(last, layers, c_dim=0, z=6, w=10, base=64, most=12, img_channels=3):
    def width(res):
        return min(base // res, most)

    G = {"dlatent_avg": [w]} | ({"mapping/LabelConcat/weight": [c_dim, z]} if c_dim else {})
    for i in range(layers):
        G |= dense_shapes(f"mapping/Dense{i}", (2 * z if c_dim else z) if i == 0 else w, w)
    G["synthesis/4x4/Const/const"] = [1, width(4), 4, 4]
    for i, res in enumerate(resolutions(last)):
        names = ("Const", "Conv") if res == 4 else ("Conv0_up", "Conv1")
        for k, name in enumerate(names):
            layer = f"synthesis/{res}x{res}/{name}"
            G |= {f"{layer}/bias": [width(res)], f"{layer}/Noise/weight": [width(res)]}
            G |= dense_shapes(f"{layer}/StyleMod", w, 2 * width(res)) | {
                f"synthesis/noise{2 * i + k}": [1, 1, res, res]
            }
            if name != "Const":
                G[f"{layer}/weight"] = [3, 3, width(res // 2) if name == "Conv0_up" else width(res), width(res)]
        G |= conv_shapes(f"synthesis/ToRGB_lod{level(res, last)}", width(res), img_channels, 1)
    return G, growing_d_shapes(last, width, max(c_dim, 1), img_channels)
