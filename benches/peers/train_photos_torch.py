"""The recipe `photos-vqgan-64` without LPIPS in PyTorch, for as many CPU seconds as it is given: what comes of
the same time beside `vqtok train`.

    python train_photos_torch.py TRAIN HELD SECONDS OUT [--threads 1] [--seed 1]

TRAIN and HELD are folders of pictures of 64 pixels. Network, losses and optimizer are those of
`train_vqgan_torch.py`, its sizes the recipe's; codes start by k-means over latents after 100 steps without
quantizing, and those that no latent chose lately are put on latents, as vqtok's are. The learning rate
follows the share of the time: 2 % warm-up, then a cosine. OUT gets HELD's pictures as the averaged weights
reconstruct them; PSNR is printed.
"""

import argparse
import copy
import math
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F
import train_vqgan_torch as vqgan
from PIL import Image
from torch import nn

BATCH, CODES, DIM, PLAIN = 16, 1024, 8, 100
RATE, THEIR_RATE, AVERAGE = 4e-4, 2e-4, 0.999


def pictures(folder):
    paths = sorted(path for path in pathlib.Path(folder).rglob("*") if path.is_file())
    arrays = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    return paths, torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)


def networks():
    vqgan.WIDTHS, vqgan.BLOCKS, vqgan.LATENT = [32, 64, 128], 1, 64
    vqgan.DIM, vqgan.CODES, vqgan.norm = DIM, CODES, lambda channels: nn.GroupNorm(16, channels, eps=1e-6)
    return vqgan.encoder(), nn.Sequential(*vqgan.decoder())


def discriminator():
    """PatchGAN of 32 filters."""
    layers, width = [nn.Conv2d(3, 32, 4, 2, 1), nn.LeakyReLU(0.2)], 32
    for layer in range(1, 4):
        c_out, stride = 32 << layer, 2 if layer < 3 else 1
        layers += [nn.Conv2d(width, c_out, 4, stride, 1, bias=False), nn.BatchNorm2d(c_out), nn.LeakyReLU(0.2)]
        width = c_out
    return nn.Sequential(*layers, nn.Conv2d(width, 1, 4, 1, 1))


class Book:
    """EMA codes, with k-means and revival."""

    def __init__(self):
        self.codes = None

    def start(self, rows):
        self.codes = rows[torch.randperm(len(rows))[:CODES]].clone()
        for _ in range(10):
            nearest = self.nearest(rows)
            count = torch.bincount(nearest, minlength=CODES)
            sums = torch.zeros(CODES, DIM).index_add_(0, nearest, rows)
            self.codes = torch.where(count[:, None] > 0, sums / count[:, None].clamp(min=1), self.codes)
        self.count, self.sum = torch.ones(CODES), self.codes.clone()
        self.used = torch.ones(CODES)

    def nearest(self, rows):
        return (self.codes.square().sum(1) - 2 * rows @ self.codes.t()).argmin(1)

    def update(self, rows, nearest, step):
        count = torch.bincount(nearest, minlength=CODES).float()
        self.count.mul_(0.99).add_(count, alpha=0.01)
        self.sum.mul_(0.99).add_(torch.zeros(CODES, DIM).index_add_(0, nearest, rows), alpha=0.01)
        total = self.count.sum()
        self.codes = self.sum / ((self.count + 1e-5) / (total + CODES * 1e-5) * total)[:, None]
        self.used.add_(count)
        if step % 20 == 0:
            dead = (self.used == 0).nonzero().flatten()
            chosen = rows[torch.randint(len(rows), (len(dead),))]
            self.codes[dead], self.sum[dead], self.count[dead] = chosen, chosen, 1.0
            self.used.zero_()


class Training:
    def __init__(self, images):
        self.images = images
        (self.enc, self.dec), self.disc, self.book = networks(), discriminator(), Book()
        self.own = [*self.enc.parameters(), *self.dec.parameters()]
        self.optimizer = torch.optim.AdamW(self.own, RATE, (0.9, 0.95), weight_decay=0.0)
        self.theirs = torch.optim.AdamW(self.disc.parameters(), THEIR_RATE, (0.5, 0.9), weight_decay=0.0)
        self.average, self.steps, self.judged = copy.deepcopy([self.enc, self.dec]), 0, 0
        self.real = self.fake = torch.tensor(0.0)

    def batch(self):
        at = torch.randint(len(self.images), (BATCH,))
        return self.images[at].float() / 127.5 - 1

    def quantized(self, z):
        if self.book.codes is None:
            return z, torch.tensor(0.0)
        rows = z.detach().permute(0, 2, 3, 1).reshape(-1, DIM)
        nearest = self.book.nearest(rows)
        codes = self.book.codes[nearest].reshape(z.shape[0], *z.shape[2:], DIM).permute(0, 3, 1, 2)
        self.book.update(rows, nearest, self.steps)
        return z + (codes - z).detach(), 0.25 * F.mse_loss(z, codes)

    def step(self, share):
        rate = share / 0.02 if share < 0.02 else 0.5 * (1 + math.cos(math.pi * (share - 0.02) / 0.98))
        for group in self.optimizer.param_groups:
            group["lr"] = RATE * max(rate, 1e-3)
        if self.steps == PLAIN:
            with torch.no_grad():
                latents = [self.enc(self.batch()) for _ in range(8)]
            self.book.start(torch.cat(latents).permute(0, 2, 3, 1).reshape(-1, DIM))
        x = self.batch()
        latents, commitment = self.quantized(self.enc(x))
        y = self.dec(latents)
        loss = F.l1_loss(y, x) + commitment
        if share >= 0.5:
            loss = loss + self.adversarial(F.l1_loss(y, x), y, min(1.0, max(0.0, (share - 0.52) / 0.05)))
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.own, 1.0)
        self.optimizer.step()
        if share >= 0.5:
            self.judge(x, y.detach())
        self.steps += 1
        keep = min(AVERAGE, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for ours, net in zip(self.average, [self.enc, self.dec]):
                for a, b in zip(ours.parameters(), net.parameters()):
                    a.lerp_(b, 1 - keep)

    def adversarial(self, nll, y, ramp):
        if ramp == 0:
            return 0.0
        self.disc.requires_grad_(False)
        generator = -self.disc(y).mean()
        self.disc.requires_grad_(True)
        weight = self.dec[-1].weight
        ours, theirs = (torch.autograd.grad(l, weight, retain_graph=True)[0].norm() for l in (nll, generator))
        return ramp * 0.8 * (ours / (theirs + 1e-4)).clamp(0, 10).detach() * generator

    def judge(self, x, y):
        real, fake = self.disc(x), self.disc(y)
        loss = 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
        lecam = F.relu(real - self.fake).square().mean() + F.relu(self.real - fake).square().mean()
        self.theirs.zero_grad()
        (loss + 0.05 * lecam).backward()
        nn.utils.clip_grad_norm_(self.disc.parameters(), 1.0)
        self.theirs.step()
        self.real = 0.999 * self.real + 0.001 * real.detach().mean()
        self.fake = 0.999 * self.fake + 0.001 * fake.detach().mean()

    @torch.no_grad()
    def reconstructed(self, images):
        enc, dec = self.average
        out = []
        for some in images.split(BATCH):
            z = enc(some.float() / 127.5 - 1)
            nearest = self.book.nearest(z.permute(0, 2, 3, 1).reshape(-1, DIM))
            codes = self.book.codes[nearest].reshape(len(some), *z.shape[2:], DIM).permute(0, 3, 1, 2)
            out.append(((dec(codes) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))
        return torch.cat(out)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("train")
    parser.add_argument("held")
    parser.add_argument("seconds", type=float)
    parser.add_argument("out")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    (_, images), (paths, held) = pictures(args.train), pictures(args.held)
    training, begun = Training(images), time.process_time()
    while (share := (time.process_time() - begun) / args.seconds) < 1:
        training.step(share)
    made = training.reconstructed(held)
    errors = (made.float() - held.float()).square().mean(dim=(1, 2, 3))
    psnr = (10 * torch.log10(255**2 / errors)).mean()
    print(f"{training.steps} steps, {time.process_time() - begun:.0f} CPU-s: PSNR {psnr:.2f} dB on {len(held)}")
    for path, picture in zip(paths, made):
        to = pathlib.Path(args.out) / path.relative_to(args.held).with_suffix(".png")
        to.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(to)


if __name__ == "__main__":
    main()
