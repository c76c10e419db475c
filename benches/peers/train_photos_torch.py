"""The recipe `photos-vqgan-64` without LPIPS in PyTorch, for so many CPU-seconds.

Usage: train_photos_torch.py TRAIN HELD OUT SECONDS [THREADS]. TRAIN and HELD are folders of pictures of 64x64
pixels. It writes the reconstructions of HELD to OUT, under the same names, by the averaged weights, and prints one
line of JSON. The learning rate's cosine and the discriminator's start follow the share of SECONDS that is used.
"""

import copy
import json
import math
import resource
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import train_vqgan_torch as net
from PIL import Image
from torch import nn

net.WIDTHS, net.BLOCKS, net.LATENT, net.DIM, net.CODES = [32, 64, 128], 1, 64, 8, 1024
net.ATTENTION, net.GROUPS, net.FIRST, net.FILTERS = [False] * 3, 16, 32, 32
BATCH, RATE, RATE_DISC, FREE_STEPS, REVIVE_EVERY = 16, 4e-4, 2e-4, 30, 20


def seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def pictures(folder):
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix in (".png", ".jpg"))
    return paths, torch.stack([torch.from_numpy(np.array(Image.open(path).convert("RGB"))) for path in paths])


def batch_of(images, chosen):
    x = images[chosen].permute(0, 3, 1, 2).float() / 127.5 - 1
    flipped = torch.rand(len(chosen)) < 0.5
    return torch.where(flipped[:, None, None, None], x.flip(3), x)


def rows_of(z):
    return z.detach().permute(0, 2, 3, 1).reshape(-1, net.DIM)


class Book(net.Codebook):
    """Codes that begin at latents, and begin there again where nothing has used them for a while."""

    def start(self, rows):
        self.embedding = rows[torch.randperm(len(rows))[: net.CODES]].clone()
        for _ in range(10):
            nearest = self.nearest(rows)
            count = torch.bincount(nearest, minlength=net.CODES)
            sums = torch.zeros_like(self.embedding).index_add_(0, nearest, rows)
            self.embedding = torch.where(count[:, None] > 0, sums / count.clamp(min=1)[:, None], self.embedding)
        self.count, self.sum = torch.ones(net.CODES), self.embedding.clone()

    def revive(self, rows):
        dead = (self.count < 0.01 * self.count.mean()).nonzero().flatten()[: len(rows)]
        fresh = rows[torch.randperm(len(rows))[: len(dead)]]
        self.embedding[dead], self.sum[dead], self.count[dead] = fresh, fresh.clone(), 1.0

    def quantize(self, z):
        rows = rows_of(z)
        indices = self.nearest(rows)
        codes = self.embedding[indices].reshape(z.shape[0], *z.shape[2:], net.DIM).permute(0, 3, 1, 2)
        return rows, indices, codes


class Training:
    def __init__(self, images, budget):
        self.images, self.budget, self.step, self.order = images, budget, 0, []
        self.enc, (self.dec, self.last), self.opponent = net.encoder(), net.decoder(), net.Opponent(RATE_DISC)
        self.book, self.kept = Book(), []
        self.model = nn.ModuleList([self.enc, self.dec, self.last])
        self.average = copy.deepcopy(self.model)
        self.own = torch.optim.AdamW(self.model.parameters(), RATE, (0.9, 0.95), weight_decay=0.0)

    def next_batch(self):
        if len(self.order) < BATCH:
            self.order = torch.randperm(len(self.images)).tolist()
        chosen, self.order = self.order[:BATCH], self.order[BATCH:]
        return batch_of(self.images, chosen)

    def rates(self, share):
        scale = min(share / 0.02, 1.0) * 0.5 * (1 + math.cos(math.pi * share))
        self.own.param_groups[0]["lr"] = RATE * scale
        self.opponent.optimizer.param_groups[0]["lr"] = RATE_DISC * scale

    def codes(self, z, share):
        """The latents' codes, with the gradient passed straight through, and the commitment."""
        if self.step < FREE_STEPS:
            self.kept.append(rows_of(z))
            return z, torch.tensor(0.0)
        if self.kept:
            self.book.start(torch.cat(self.kept[-16:]))
            self.kept = []
        rows, indices, codes = self.book.quantize(z)
        with torch.no_grad():
            self.book.update(rows, indices)
            if self.step % REVIVE_EVERY == 0 and share < 0.8:
                self.book.revive(rows)
        return z + (codes - z).detach(), 0.25 * F.mse_loss(z, codes)

    def adversarial(self, y, nll, share):
        generator = self.opponent.judged(y)
        ramp = min(max(share - 0.52, 0.0) / 0.05, 1.0)
        return net.adaptive_weight(nll, generator, self.last.weight) * ramp * generator

    def once(self, share):
        self.rates(share)
        x = self.next_batch()
        q, commitment = self.codes(self.enc(x), share)
        y = self.last(self.dec(q))
        nll = F.l1_loss(y, x)
        loss = nll + commitment + (self.adversarial(y, nll, share) if share >= 0.5 else 0.0)
        self.own.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.own.step()
        if share >= 0.5:
            self.opponent.update(x, y)
        self.step += 1
        decay = min(0.999, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for ours, theirs in zip(self.average.parameters(), self.model.parameters()):
                ours.lerp_(theirs, 1 - decay)

    def run(self):
        began = seconds()
        while (share := (seconds() - began) / self.budget) < 1:
            self.once(share)
        return seconds() - began

    @torch.inference_mode()
    def reconstruct(self, images):
        enc, dec, last = self.average
        x = images.permute(0, 3, 1, 2).float() / 127.5 - 1
        parts = [last(dec(self.book.quantize(enc(part))[2])) for part in x.split(BATCH)]
        return ((torch.cat(parts).clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1)


def main():
    train, held, out = (Path(word) for word in sys.argv[1:4])
    torch.set_num_threads(int(sys.argv[5]) if len(sys.argv) > 5 else 1)
    torch.manual_seed(1)
    training = Training(pictures(train)[1], float(sys.argv[4]))
    spent = training.run()
    paths, images = pictures(held)
    made = training.reconstruct(images)
    for path, picture in zip(paths, made):
        target = out / path.relative_to(held).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.numpy()).save(target)
    error = (made.float() - images.float()).square().flatten(1).mean(1)
    psnr = (10 * torch.log10(255**2 / error)).mean().item()
    used = len(torch.bincount(training.book.quantize(training.average[0](batch_of(images, range(len(images)))))[1]).nonzero())
    print(json.dumps({"steps": training.step, "cpu_seconds": round(spent, 1), "psnr": round(psnr, 3), "codes_used": used}))


if __name__ == "__main__":
    main()
