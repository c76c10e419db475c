"""The peers of `vqtok evaluate`: pytorch-msssim, lpips, pytorch-fid and scikit-image on the same pictures.

    pip install torch torchvision lpips==0.1.4 pytorch-fid==0.3.0 pytorch-msssim==1.0.0 scikit-image
    python evaluate_torch.py golden                       # the numbers that unit tests hold
    python evaluate_torch.py weights DIR [PUBLISHED]      # lpips-alex.pth, lpips-vgg.pth, inception.pth
    python evaluate_torch.py compare ORIGINALS DECODED VQTOK_OUT/model-00 WEIGHTS \
        [--lpips alex|vgg|none] [--fid IMAGES] [--features]

Nothing is downloaded. Networks get numbers that a hash of their weights' names gives, so that vqtok's
tests can make the same ones; the heads of LPIPS are those of the package. `compare` reads what vqtok
found of each image from its Parquet files and holds it against what the packages find on the files.
"""

import argparse
import itertools
import pathlib
import time

import numpy as np
import torch


def fnv1a64(text):
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return h


def unit(seed, n):
    """Numbers in [-1, 1): 24 bits of splitmix64."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (((z >> np.uint64(40)).astype(np.int64) - 2**23) / 2**23).astype(np.float32)


def generated(name, shape):
    """A weight by its name: of a convolution as wide as ReLU wants it, of a norm near one."""
    values = unit(fnv1a64(name), int(np.prod(shape)))
    if name.endswith("running_var") or name.endswith("bn.weight"):
        values = 1 + values * np.float32(0.125)
    elif len(shape) == 4 and ".lin" not in name and not name.startswith("lin"):
        values = values * np.float32(np.sqrt(np.float32(6) / np.float32(np.prod(shape[1:]))))
    elif len(shape) == 4:
        values = np.abs(values) * np.float32(0.125)
    else:
        values = values * np.float32(0.0625)
    return torch.from_numpy(values.reshape(shape).astype(np.float32))


def pictures(height, width):
    """A picture that vqtok's tests make too, [3, height, width] of whole numbers, and a noisy one."""
    at = np.arange(3 * height * width)
    plane = ((at % width) * 3 + (at // width % height) * 2) % 200
    scaled = unit(fnv1a64("picture"), at.size).astype(np.float64) * 25
    noise = np.sign(scaled) * np.floor(np.abs(scaled) + 0.5)
    noisy = np.clip(plane + noise, 0, 255)
    shape = (3, height, width)
    return plane.reshape(shape).astype(np.float32), noisy.reshape(shape).astype(np.float32)




def lpips_state(kind):
    """torchvision's names, by hash."""
    import torchvision

    make = {"alex": torchvision.models.alexnet, "vgg": torchvision.models.vgg16}[kind]
    shapes = make(weights=None).features.state_dict()
    return {f"features.{name}": generated(f"features.{name}", tuple(t.shape)) for name, t in shapes.items()}


def lpips_of(kind, state, heads=None):
    import lpips

    net = lpips.LPIPS(net=kind, pnet_rand=True, pretrained=heads is None, verbose=False)
    own = net.net.state_dict()
    for name in own:
        _, rest = name.split(".", 1)
        own[name] = state[f"features.{rest}"]
    net.net.load_state_dict(own)
    if heads is not None:
        for at, lin in enumerate([net.lin0, net.lin1, net.lin2, net.lin3, net.lin4]):
            lin.model[1].weight.data = heads[f"lin{at}.model.1.weight"]
    return net.eval()


def inception():
    """pytorch-fid's network, by hash, its 1,008 classes left out."""
    from pytorch_fid import inception as package

    package.load_state_dict_from_url = lambda *_, **__: None
    loaded = torch.nn.Module.load_state_dict
    torch.nn.Module.load_state_dict = lambda self, state, *a, **k: state and loaded(self, state, *a, **k)
    try:
        net = package.fid_inception_v3()
    finally:
        torch.nn.Module.load_state_dict = loaded
    state = {
        name: generated(name, tuple(t.shape))
        for name, t in net.state_dict().items()
        if not name.endswith("num_batches_tracked") and not name.startswith("fc.")
    }
    net.load_state_dict(state, strict=False)
    return net.eval(), state


def fid_model(net):
    """InceptionV3 of pytorch-fid around that network."""
    from pytorch_fid import inception as package

    package.fid_inception_v3 = lambda: net
    return package.InceptionV3([package.InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval()


def features_set(name, count, n, spread):
    values = unit(fnv1a64(name), count * n).reshape(count, n)
    return values * np.float32(spread) + np.float32(0.25) * np.arange(n, dtype=np.float32)


def frechet(a, b):
    from pytorch_fid.fid_score import calculate_frechet_distance

    stats = [(x.astype(np.float64).mean(0), np.cov(x.astype(np.float64), rowvar=False)) for x in (a, b)]
    return calculate_frechet_distance(*stats[0], *stats[1])


def golden(_):
    from pytorch_msssim import ms_ssim

    torch.set_grad_enabled(False)
    for height, width in [(161, 161), (176, 192), (163, 210)]:
        a, b = (torch.from_numpy(p).double()[None] for p in pictures(height, width))
        print("ms_ssim", height, width, repr(ms_ssim(a, b, data_range=255).item()))
    for counts, n in [((100, 120), 24), ((500, 400), 64), ((20, 16), 32)]:
        a, b = features_set("a", counts[0], n, 1.0), features_set("b", counts[1], n, 1.5)
        print("frechet", counts, n, repr(float(frechet(a, b))))
    for kind, sides in [("alex", (64, 72)), ("vgg", (32, 40))]:
        state = lpips_state(kind)
        widths = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}[kind]
        heads = {
            (name := f"lin{at}.model.1.weight"): generated(name, (1, width, 1, 1))
            for at, width in enumerate(widths)
        }
        a, b = (torch.from_numpy(p)[None] / 127.5 - 1 for p in pictures(*sides))
        print("lpips", kind, sides, repr(lpips_of(kind, state, heads).double()(a.double(), b.double()).item()))
    net, _ = inception()
    x = torch.from_numpy(pictures(75, 75)[1])[None] / 255
    model = fid_model(net).double()
    model.resize_input = False
    out = model(x.double())[0].flatten().numpy()
    print("inception", [repr(float(v)) for v in out[:4]], "sum", repr(float(out.sum())), "norm", repr(float(np.linalg.norm(out))))
    x = torch.from_numpy(pictures(40, 24)[1])[None] / 255
    x = torch.nn.functional.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False) * 2 - 1
    places = [(0, 0, 0), (1, 150, 77), (2, 298, 298), (0, 3, 290)]
    print("resized", [repr(float(x[0, c, y, x_])) for c, y, x_ in places], repr(float(x.double().sum())))


def weights(args):
    folder = pathlib.Path(args.dir)
    folder.mkdir(parents=True, exist_ok=True)
    import lpips

    for kind in ("alex", "vgg"):
        heads = pathlib.Path(lpips.__file__).parent / f"weights/v0.1/{kind}.pth"
        state = lpips_state(kind) | torch.load(heads, map_location="cpu")
        torch.save(state, folder / f"lpips-{kind}.pth")
    torch.save(inception()[1], folder / "inception.pth")


def found_rows(folder):
    import pyarrow.parquet as pq

    rows = []
    for path in sorted(pathlib.Path(folder).glob("part-*.parquet")):
        rows += pq.read_table(path).to_pylist()
    return rows


def picture(path):
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB"))


def compare(args):
    import pytorch_msssim
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    torch.set_grad_enabled(False)
    torch.set_num_threads(args.threads)
    rows = found_rows(args.found)
    stem = lambda key: pathlib.Path(args.decoded) / (key.rsplit(".", 1)[0] + ".png")
    pairs = [(picture(pathlib.Path(args.originals) / r["key"]), picture(stem(r["key"]))) for r in rows]
    print(len(rows), "images", pairs[0][0].shape)
    worst = lambda name, mine, peer: print(
        f"{name}: largest difference of an image {max(abs(m - p) for m, p in zip(mine, peer)):.2e}; "
        f"means {np.mean(mine):.7f} {np.mean(peer):.7f}, apart {abs(np.mean(mine) - np.mean(peer)):.2e}"
    )
    psnr = [10 * np.log10(255**2 / r["mse"]) for r in rows]
    worst("PSNR (skimage)", psnr, [peak_signal_noise_ratio(a, b, data_range=255) for a, b in pairs])
    ssim = [
        structural_similarity(
            a, b, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for a, b in pairs[: args.skimage]
    ]
    worst("SSIM (skimage)", [r["ssim"] for r in rows[: args.skimage]], ssim)
    # One batch at a time: all in float32 would be 7 GB of 10,000 pictures of 176 pixels.
    batches = lambda: (
        [torch.from_numpy(np.stack(side)).permute(0, 3, 1, 2).float() for side in zip(*pairs[at : at + 64])]
        for at in range(0, len(pairs), 64)
    )
    timed = time.perf_counter()
    ssim = torch.cat([pytorch_msssim.ssim(a, b, data_range=255, size_average=False) for a, b in batches()])
    worst("SSIM (pytorch-msssim)", [r["ssim"] for r in rows], ssim.tolist())
    if rows[0]["ms_ssim"] is not None:
        values = [pytorch_msssim.ms_ssim(a, b, data_range=255, size_average=False) for a, b in batches()]
        worst("MS-SSIM (pytorch-msssim)", [r["ms_ssim"] for r in rows], torch.cat(values).tolist())
    print(f"SSIM, MS-SSIM: {time.perf_counter() - timed:.1f} s")
    if args.lpips != "none":
        net = lpips_of(args.lpips, torch.load(pathlib.Path(args.weights) / f"lpips-{args.lpips}.pth"))
        timed = time.perf_counter()
        values = torch.cat([net(a / 127.5 - 1, b / 127.5 - 1).flatten() for a, b in batches()]).tolist()
        worst(f"LPIPS ({args.lpips})", [r["lpips"] for r in rows], values)
        print(f"LPIPS: {time.perf_counter() - timed:.1f} s")
    if args.features:
        mine = [np.array([r[name] for r in rows]) for name in ("inception_image", "inception_reconstruction")]
        timed = time.perf_counter()
        print("FID of pytorch-fid on vqtok's features:", repr(float(frechet(*mine))), f"{time.perf_counter() - timed:.1f} s")
    if args.fid:
        model = fid_model(inception()[0])
        timed = time.perf_counter()
        peers = [[], []]
        for batch in itertools.islice(batches(), args.fid // 64):
            for side, x in zip(peers, batch):
                side.append(model(x / 255)[0].flatten(1).numpy())
        peers = [np.concatenate(side) for side in peers]
        took = time.perf_counter() - timed
        count = len(peers[0])
        print(f"Inception: {2 * count} pictures in {took:.1f} s, {2 * count / took:.2f} a second")
        mine = [np.array([r[name] for r in rows[:count]]) for name in ("inception_image", "inception_reconstruction")]
        apart = max(np.abs(a - b).max() for a, b in zip(mine, peers))
        print(f"features: largest difference {apart:.2e} of values up to {max(p.max() for p in peers):.2f}")
        print("FID of these images:", repr(float(frechet(*peers))), "on vqtok's features", repr(float(frechet(*mine))))


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    commands.add_parser("golden").set_defaults(run=golden)
    command = commands.add_parser("weights")
    command.add_argument("dir")
    command.set_defaults(run=weights)
    command = commands.add_parser("compare")
    for name in ("originals", "decoded", "found", "weights"):
        command.add_argument(name)
    command.add_argument("--lpips", choices=["alex", "vgg", "none"], default="alex")
    command.add_argument("--fid", type=int, default=0)
    command.add_argument("--features", action="store_true")
    command.add_argument("--skimage", type=int, default=10**9)
    command.add_argument("--threads", type=int, default=2)
    command.set_defaults(run=compare)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
