"""A step of protocol P (docs of `benches/train.rs`) in PyTorch: VQ-VAE of width HIDDEN on 32 px
images, EMA codebook of 512 codes, Adam, MSE over variance plus commitment.

Usage: train_torch.py HIDDEN BATCH THREADS. Prints `ready`, then answers each number n on stdin with
the CPU and wall seconds of n steps. The caller sets the allocator.
"""

import resource
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

DIM = 64
CODES = 512
VARIANCE = 0.06


class Residual(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.conv1 = nn.Conv2d(hidden, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, hidden, 1)

    def forward(self, x):
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


def encoder(hidden):
    return nn.Sequential(
        nn.Conv2d(3, hidden // 2, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(hidden // 2, hidden, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(hidden, hidden, 3, padding=1),
        Residual(hidden),
        Residual(hidden),
        nn.ReLU(),
        nn.Conv2d(hidden, DIM, 1),
    )


def decoder(hidden):
    return nn.Sequential(
        nn.Conv2d(DIM, hidden, 3, padding=1),
        Residual(hidden),
        Residual(hidden),
        nn.ReLU(),
        nn.ConvTranspose2d(hidden, hidden // 2, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(hidden // 2, 3, 4, 2, 1),
    )


class Codebook:
    def __init__(self):
        self.embedding = torch.randn(CODES, DIM) * 0.1
        self.count = torch.ones(CODES)
        self.sum = self.embedding.clone()

    def nearest(self, rows):
        return (self.embedding.square().sum(1) - 2 * rows @ self.embedding.t()).argmin(1)

    def update(self, rows, indices):
        one_hot = F.one_hot(indices, CODES).float()
        self.count.mul_(0.99).add_(one_hot.sum(0), alpha=0.01)
        self.sum.mul_(0.99).add_(one_hot.t() @ rows, alpha=0.01)
        total = self.count.sum()
        smoothed = (self.count + 1e-5) / (total + CODES * 1e-5) * total
        self.embedding = self.sum / smoothed[:, None]


def main():
    hidden, batch, threads = (int(word) for word in sys.argv[1:4])
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    enc, dec, book = encoder(hidden), decoder(hidden), Codebook()
    parameters = [*enc.parameters(), *dec.parameters()]
    optimizer = torch.optim.AdamW(parameters, 1e-3, (0.9, 0.95), weight_decay=0.0)
    x = torch.rand(batch, 3, 32, 32) - 0.5

    def step():
        z = enc(x)
        rows = z.detach().permute(0, 2, 3, 1).reshape(-1, DIM)
        indices = book.nearest(rows)
        codes = book.embedding[indices].reshape(batch, 8, 8, DIM).permute(0, 3, 1, 2)
        y = dec(z + (codes - z).detach())
        loss = F.mse_loss(y, x) / VARIANCE + 0.25 * F.mse_loss(z, codes)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            book.update(rows, indices)

    for _ in range(3):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        usage, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        for _ in range(int(line)):
            step()
        now = resource.getrusage(resource.RUSAGE_SELF)
        cpu = now.ru_utime + now.ru_stime - usage.ru_utime - usage.ru_stime
        print(cpu, time.perf_counter() - wall, flush=True)


if __name__ == "__main__":
    main()
