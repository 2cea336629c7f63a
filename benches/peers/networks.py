"""The networks of `benches/common/mod.rs` in PyTorch, layer for layer, with their batches and optimizers."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD, AdamW

CLASSES = 10


def mlp():
    layers, width = [nn.Flatten()], 784
    for _ in range(2):
        layers += [nn.Linear(width, 512), nn.BatchNorm1d(512), nn.ReLU()]
        width = 512
    return nn.Sequential(*layers, nn.Linear(width, CLASSES))


def lenet():
    def stage(c_in, c_out):
        conv = nn.Conv2d(c_in, c_out, 5, padding=2, bias=False)
        return [conv, nn.BatchNorm2d(c_out), nn.ReLU(), nn.MaxPool2d(2)]

    features = [nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.BatchNorm1d(128), nn.ReLU()]
    return nn.Sequential(*stage(1, 32), *stage(32, 64), *features, nn.Linear(128, CLASSES))


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut: option B (a projection) or option A (every second pixel, zero channels)."""

    def __init__(self, c_in, c_out, stride, project):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.stride, self.pad = stride, (c_out - c_in) // 2
        self.shortcut = None
        if project and (stride > 1 or c_in != c_out):
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.shortcut is not None:
            x = self.shortcut(x)
        elif self.stride > 1 or self.pad:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(y + x)


def resnet(widths, blocks, project, features):
    layers = [nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
    c_in = widths[0]
    for stage, width in enumerate(widths):
        for block in range(blocks):
            layers.append(Block(c_in, width, 2 if stage > 0 and block == 0 else 1, project))
            c_in = width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()] + features
    return nn.Sequential(*layers, nn.Linear(c_in, CLASSES))


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


def edsr():
    def conv(c_in, c_out):
        return nn.Conv2d(c_in, c_out, 3, padding=1)

    body = [Residual(conv(64, 64), nn.ReLU(), conv(64, 64)) for _ in range(4)]
    return nn.Sequential(conv(3, 64), Residual(*body, conv(64, 64)), conv(64, 256), nn.PixelShuffle(2), conv(64, 3))


def mobilenetv2():
    """Torchvision's module in the form for images of 32 x 32: the first convolution and the stage of 24 channels keep the size."""
    from torchvision.models import MobileNetV2

    rows = [[1, 16, 1, 1], [6, 24, 2, 1], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]]
    net = MobileNetV2(num_classes=CLASSES, inverted_residual_setting=rows)
    net.features[0][0].stride = (1, 1)
    net.classifier[0] = nn.Identity()
    return net


def vit():
    """Timm's module, with its fused attention."""
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(img_size=32, patch_size=4, num_classes=CLASSES, embed_dim=128, depth=6, num_heads=4)


# The fused optimizers are the fastest that PyTorch has.
def sgd(net):
    return SGD(net.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4, fused=True)


def adamw(net):
    return AdamW(net.parameters(), lr=1e-4, weight_decay=1e-4, fused=True)


# Name: maker, optimizer, batch, [C, H, W].
NETWORKS = {
    "mlp": (mlp, sgd, 128, [1, 28, 28]),
    "lenet": (lenet, sgd, 128, [1, 28, 28]),
    "resnet20": (lambda: resnet([16, 32, 64], 3, False, [nn.BatchNorm1d(64)]), sgd, 128, [3, 32, 32]),
    "resnet18": (lambda: resnet([64, 128, 256, 512], 2, True, []), sgd, 32, [3, 32, 32]),
    "edsr": (edsr, sgd, 16, [3, 24, 24]),
    "mobilenetv2": (mobilenetv2, sgd, 128, [3, 32, 32]),
    "vit": (vit, adamw, 128, [3, 32, 32]),
}


def make(name):
    """A network with random images and targets, and what makes its optimizer."""
    maker, optimizer, batch, [c, h, w] = NETWORKS[name]
    torch.manual_seed(1)
    images = torch.randn(batch, c, h, w)
    target = torch.randn(batch, c, 2 * h, 2 * w) if name == "edsr" else torch.arange(batch) % CLASSES
    return maker(), images, target, optimizer
