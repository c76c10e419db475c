"""A small class-conditional transformer on the tokens of `vqtok tokenize`: train it, draw new
images with it, fill in masked ones. What it draws is Parquet that `vqtok decode` turns into
pictures.

usage: transformer.py train TOKENS --held-out TOKENS --out prior.pt
       transformer.py sample prior.pt --out samples.parquet
       transformer.py restore prior.pt TOKENS --out restored.parquet

One file without configuration, to be read and changed. TRAINING.md walks through it.
"""

import argparse
import math
import resource
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import vqtok


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        wide = 4 * width
        self.mlp = nn.Sequential(nn.Linear(width, wide), nn.GELU(), nn.Linear(wide, width))

    def forward(self, x, past=None):
        """`past`, a list of keys and values, grows by those of `x`."""
        batch, length, width = x.shape
        q, k, v = (
            part.view(batch, length, self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).split(width, dim=2)
        )
        if past is not None:
            if past:
                k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
            past[:] = [k, v]
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=length > 1)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm2(x))


class Prior(nn.Module):
    """p(tokens | class), row by row. The class stands where a sequence begins; one more class, the
    last, stands for none.
    """

    def __init__(self, codes, classes, grid, width=128, layers=4, heads=4):
        super().__init__()
        self.settings = dict(
            codes=codes, classes=classes, grid=grid, width=width, layers=layers, heads=heads
        )
        self.none = classes
        self.codes = nn.Embedding(codes, width)
        self.classes = nn.Embedding(classes + 1, width)
        # A token's place is its row and its column.
        self.rows = nn.Parameter(0.02 * torch.randn(grid[0], 1, width))
        self.columns = nn.Parameter(0.02 * torch.randn(1, grid[1], width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, codes)
        for embedding in (self.codes, self.classes):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, tokens, label, past=None):
        """Logits of every token from the class and the tokens before it. With `past`, of the one
        behind `tokens` alone, whose last one is new.
        """
        begin = self.classes(label)[:, None]
        x = torch.cat([begin, self.codes(tokens)], dim=1)
        places = (self.rows + self.columns).flatten(0, 1)
        # What stands before a token says where that token is.
        x = x[:, : len(places)] + places[: x.shape[1]]
        if past is not None:
            x = x[:, -1:] if past[0] else x
        for number, block in enumerate(self.blocks):
            x = block(x, None if past is None else past[number])
        return self.head(self.norm(x))

    @torch.no_grad()
    def complete(self, tokens, label, draws, guidance, temperature):
        """Draw what is missing behind `tokens`. Guidance moves away from what no class says."""
        height, width = self.settings["grid"]
        past, free_past = [[[] for _ in self.blocks] for _ in range(2)]
        free = torch.full_like(label, self.none)
        while tokens.shape[1] < height * width:
            logits = self(tokens, label, past)[:, -1]
            if guidance:
                other = self(tokens, free, free_past)[:, -1]
                logits = logits + guidance * (logits - other)
            odds = F.softmax(logits / temperature, dim=-1)
            tokens = torch.cat([tokens, torch.multinomial(odds, 1, generator=draws)], dim=1)
        return tokens


def bits(model, loader):
    """Mean bits a token."""
    model.eval()
    total = rows = 0
    with torch.no_grad():
        for batch in loader:
            logits = model(batch["tokens"][:, :-1], batch["label_id"])
            loss = F.cross_entropy(logits.flatten(0, 1), batch["tokens"].flatten())
            total, rows = total + loss.item() * len(batch["tokens"]), rows + len(batch["tokens"])
    model.train()
    return total / rows / math.log(2)


def unigram(data):
    """Entropy of single tokens in bits: what a model needs that knows nothing but how often each
    code occurs.
    """
    counts = data.codebook().to_pandas().query("level == 0")["count"].to_numpy()
    odds = counts[counts > 0] / counts.sum()
    return float(-(odds * np.log2(odds)).sum())


def cpu_minutes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime / 60


def rate(step, steps, peak):
    """The learning rate: up for 100 steps, then down along a cosine."""
    return peak * min(step / 100, 0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01)


def train(given):
    data = vqtok.open(given.tokens)
    held_out = vqtok.open(given.held_out)
    if held_out.classes != data.classes:
        raise SystemExit("the two outputs have other classes: their label ids differ")
    torch.manual_seed(given.seed)
    model = Prior(data.codes, len(data.classes), data.grid, width=given.width)
    decayed = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    rows = data.iter_torch(shuffle=given.seed)
    loader = DataLoader(rows, batch_size=given.batch_size, drop_last=True)
    check = DataLoader(held_out.iter_torch(), batch_size=500)
    steps, step, begun = given.epochs * (rows.rows // given.batch_size), 0, time.time()
    for epoch in range(given.epochs):
        rows.set_epoch(epoch)
        for batch in loader:
            step += 1
            label = batch["label_id"]
            # One image in ten without its class, for guidance.
            label = torch.where(torch.rand(label.shape) < 0.1, model.none, label)
            logits = model(batch["tokens"][:, :-1], label)
            loss = F.cross_entropy(logits.flatten(0, 1), batch["tokens"].flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = rate(step, steps, given.learning_rate)
            optimizer.step()
            if step % 50 == 0:
                said = f"step {step}/{steps}, {loss.item() / math.log(2):.3f} bits a token"
                print(f"{said}, {cpu_minutes():.1f} CPU-minutes", flush=True)
    found, known = bits(model, check), unigram(data)
    wall = (time.time() - begun) / 60
    print(
        f"held out: {found:.3f} bits a token, {found / known:.1%} of the unigram entropy "
        f"({known:.3f} bits); {cpu_minutes():.1f} CPU-minutes, {wall:.1f} minutes"
    )
    saved = {"settings": model.settings, "classes": data.classes, "weights": model.state_dict()}
    torch.save(saved, given.out)


def load(path):
    saved = torch.load(path)
    model = Prior(**saved["settings"])
    model.load_state_dict(saved["weights"])
    return model.eval(), saved["classes"]


def write(path, tokens, labels, keys, grid, classes):
    """Tokens as `vqtok decode` reads them: a Parquet file with a column `tokens`. Keys name the
    pictures.
    """
    height, width = grid
    flat = pa.array(tokens.numpy().astype(np.uint16).reshape(-1))
    table = {
        "key": keys,
        "label": [classes[i] for i in labels],
        "tokens": pa.FixedSizeListArray.from_arrays(flat, height * width),
        "grid_height": pa.array([height] * len(tokens), pa.int32()),
        "grid_width": pa.array([width] * len(tokens), pa.int32()),
    }
    pq.write_table(pa.table(table), path)
    print(f"{path}: {len(tokens):,} grids of {height} x {width} tokens")


def sample(given):
    model, classes = load(given.model)
    draws = torch.Generator().manual_seed(given.seed)
    labels = torch.arange(given.count) % len(classes)
    parts = []
    for part in labels.split(given.batch_size):
        empty = torch.empty(len(part), 0, dtype=torch.int64)
        parts.append(model.complete(empty, part, draws, given.guidance, given.temperature))
    keys = [f"{classes[label]}/{i:05}.png" for i, label in enumerate(labels)]
    write(given.out, torch.cat(parts), labels, keys, model.settings["grid"], classes)


def restore(given):
    model, classes = load(given.model)
    draws = torch.Generator().manual_seed(given.seed)
    data = vqtok.open(given.tokens).torch(columns=("tokens", "label_id", "key"))
    rows = [data[i] for i in range(min(given.count, len(data)))]
    labels = torch.tensor([row["label_id"] for row in rows])
    height, width = model.settings["grid"]
    # Rows come first to last, so the upper half is what stands before the lower one.
    known = torch.stack([row["tokens"] for row in rows])[:, : height // 2 * width]
    label = labels if given.with_class else torch.full_like(labels, model.none)
    parts = [
        model.complete(*part, draws, given.guidance * given.with_class, given.temperature)
        for part in zip(known.split(given.batch_size), label.split(given.batch_size))
    ]
    keys = [f"{classes[row['label_id']]}/{row['key']}" for row in rows]
    write(given.out, torch.cat(parts), labels, keys, (height, width), classes)


def drawing(parser, count):
    parser.add_argument("--out", required=True, help="a Parquet file")
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--batch-size", type=int, default=250)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--temperature", type=float, default=1.0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("train")
    command.add_argument("tokens", help="an output of vqtok tokenize")
    command.add_argument("--held-out", required=True, help="another one, of the same model")
    command.add_argument("--out", required=True, help="file of the trained model")
    command.add_argument("--epochs", type=int, default=3)
    command.add_argument("--batch-size", type=int, default=128)
    command.add_argument("--learning-rate", type=float, default=2e-3)
    command.add_argument("--width", type=int, default=128)
    command.set_defaults(run=train)
    command = commands.add_parser("sample")
    command.add_argument("model", help="what train wrote")
    drawing(command, 1000)
    command.set_defaults(run=sample)
    command = commands.add_parser("restore")
    command.add_argument("model", help="what train wrote")
    command.add_argument("tokens", help="an output whose images get a new lower half")
    command.add_argument("--with-class", action="store_true", help="tell the model their classes")
    drawing(command, 1000)
    command.set_defaults(run=restore)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.run(given)


if __name__ == "__main__":
    main()
