"""A step of a VQGAN f8 (`cargo bench --bench train -- vqgan`) in PyTorch: 128 px, ch 64, widths 64, 64, 128,
256, attention at the last level and in the middle, 1,024 EMA codes of 8 numbers, L1, PatchGAN discriminator with
hinge loss, adaptive weight and LeCAM, AdamW.

Usage: train_vqgan_torch.py BATCH THREADS [forward]. Prints `ready`, then answers each number n on stdin with the
CPU and wall seconds of n steps, or of n passes through encoder, codebook and decoder without gradients, which
PyTorch does fastest with channels last. The caller sets the allocator.
"""

import resource
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

WIDTHS, BLOCKS, LATENT, DIM, CODES = [64, 64, 128, 256], 2, 128, 8, 1024
ATTENTION, GROUPS, FIRST, FILTERS = [False, False, False, True], 32, 64, 64


def norm(channels):
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)


class Block(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.norm1, self.conv1 = norm(c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2, self.conv2 = norm(c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm, self.qkv = norm(channels), nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=2)
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(y.transpose(1, 2).reshape(b, c, h, w))


class Down(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def middle(channels):
    return [Block(channels, channels), Attention(channels), Block(channels, channels)]


def encoder():
    layers, width = [nn.Conv2d(3, FIRST, 3, padding=1)], FIRST
    for level, c_out in enumerate(WIDTHS):
        for _ in range(BLOCKS):
            layers.append(Block(width, c_out))
            width = c_out
            if ATTENTION[level]:
                layers.append(Attention(width))
        if level < len(WIDTHS) - 1:
            layers.append(Down(width))
    layers += [*middle(width), norm(width), nn.SiLU(), nn.Conv2d(width, LATENT, 3, padding=1)]
    return nn.Sequential(*layers, nn.Conv2d(LATENT, DIM, 1))


def decoder():
    width = WIDTHS[-1]
    layers = [nn.Conv2d(DIM, LATENT, 1), nn.Conv2d(LATENT, width, 3, padding=1), *middle(width)]
    for level, c_out in reversed(list(enumerate(WIDTHS))):
        for _ in range(BLOCKS + 1):
            layers.append(Block(width, c_out))
            width = c_out
            if ATTENTION[level]:
                layers.append(Attention(width))
        if level > 0:
            layers.append(Up(width))
    layers += [norm(width), nn.SiLU()]
    return nn.Sequential(*layers), nn.Conv2d(width, 3, 3, padding=1)


def discriminator():
    layers, width = [nn.Conv2d(3, FILTERS, 4, 2, 1), nn.LeakyReLU(0.2)], FILTERS
    for layer in range(1, 4):
        c_out = min(FILTERS << layer, 8 * FILTERS)
        stride = 2 if layer < 3 else 1
        layers += [nn.Conv2d(width, c_out, 4, stride, 1, bias=False), nn.BatchNorm2d(c_out), nn.LeakyReLU(0.2)]
        width = c_out
    return nn.Sequential(*layers, nn.Conv2d(width, 1, 4, 1, 1))


class Codebook:
    def __init__(self):
        self.embedding = torch.randn(CODES, DIM) * 0.1
        self.count, self.sum = torch.ones(CODES), self.embedding.clone()

    def nearest(self, rows):
        return (self.embedding.square().sum(1) - 2 * rows @ self.embedding.t()).argmin(1)

    def update(self, rows, indices):
        self.count.mul_(0.99).add_(torch.bincount(indices, minlength=CODES), alpha=0.01)
        self.sum.mul_(0.99).add_(torch.zeros(CODES, DIM).index_add_(0, indices, rows), alpha=0.01)
        total = self.count.sum()
        self.embedding = self.sum / ((self.count + 1e-5) / (total + CODES * 1e-5) * total)[:, None]


class Opponent:
    """The discriminator with its optimizer: hinge loss and LeCAM's penalty."""

    def __init__(self, rate):
        self.disc = discriminator()
        self.optimizer = torch.optim.AdamW(self.disc.parameters(), rate, (0.5, 0.9), weight_decay=0.0)
        self.real = self.fake = torch.tensor(0.0)

    def judged(self, y):
        """The generator's loss."""
        self.disc.requires_grad_(False)
        return -self.disc(y).mean()

    def update(self, x, y):
        self.disc.requires_grad_(True)
        real, fake = self.disc(x), self.disc(y.detach())
        loss = 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
        lecam = F.relu(real - self.fake).square().mean() + F.relu(self.real - fake).square().mean()
        self.optimizer.zero_grad()
        (loss + 0.05 * lecam).backward()
        nn.utils.clip_grad_norm_(self.disc.parameters(), 1.0)
        self.optimizer.step()
        self.real = 0.999 * self.real + 0.001 * real.detach().mean()
        self.fake = 0.999 * self.fake + 0.001 * fake.detach().mean()


def adaptive_weight(nll, generator, weight):
    """Of the generator's loss, by what both losses do to the decoder's last weights."""
    norms = [torch.autograd.grad(loss, weight, retain_graph=True)[0].norm() for loss in (nll, generator)]
    return (norms[0] / (norms[1] + 1e-4)).clamp(0, 10).detach() * 0.8


class Step:
    def __init__(self, batch):
        self.enc, (self.dec, self.last), self.opponent = encoder(), decoder(), Opponent(1e-4)
        self.book, self.x = Codebook(), torch.rand(batch, 3, 128, 128) * 2 - 1
        self.own = [*self.enc.parameters(), *self.dec.parameters(), *self.last.parameters()]
        self.optimizer = torch.optim.AdamW(self.own, 1e-4, (0.9, 0.95), weight_decay=0.0)

    def __call__(self):
        z = self.enc(self.x)
        rows = z.detach().permute(0, 2, 3, 1).reshape(-1, DIM)
        indices = self.book.nearest(rows)
        codes = self.book.embedding[indices].reshape(z.shape[0], *z.shape[2:], DIM).permute(0, 3, 1, 2)
        y = self.last(self.dec(z + (codes - z).detach()))
        nll = F.l1_loss(y, self.x)
        generator = self.opponent.judged(y)
        adaptive = adaptive_weight(nll, generator, self.last.weight)
        self.optimizer.zero_grad()
        (nll + adaptive * generator + 0.25 * F.mse_loss(z, codes)).backward()
        nn.utils.clip_grad_norm_(self.own, 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.book.update(rows, indices)
        self.opponent.update(self.x, y)


class Forward:
    """Encoder, nearest codes, decoder."""

    def __init__(self, batch):
        layout = {"memory_format": torch.channels_last}
        dec, last = decoder()
        self.enc, self.dec = encoder().to(**layout), nn.Sequential(dec, last).to(**layout)
        self.book, self.x = Codebook(), (torch.rand(batch, 3, 128, 128) * 2 - 1).to(**layout)

    @torch.inference_mode()
    def __call__(self):
        z = self.enc(self.x)
        rows = z.permute(0, 2, 3, 1).reshape(-1, DIM)
        codes = self.book.embedding[self.book.nearest(rows)]
        self.dec(codes.reshape(z.shape[0], *z.shape[2:], DIM).permute(0, 3, 1, 2))


def main():
    batch, threads = (int(word) for word in sys.argv[1:3])
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    step = Forward(batch) if sys.argv[3:] == ["forward"] else Step(batch)
    for _ in range(2):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        usage, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        for _ in range(int(line)):
            step()
        now = resource.getrusage(resource.RUSAGE_SELF)
        print(now.ru_utime + now.ru_stime - usage.ru_utime - usage.ru_stime, time.perf_counter() - wall, flush=True)


if __name__ == "__main__":
    main()
