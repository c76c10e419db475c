#!/usr/bin/env python3
"""Scores what `vqtok audit --json` found in a planted set by its truth, beside perceptual hashes.

    vqtok audit tokens/A --model model --against tokens/B --json found.json
    audit_score.py SET found.json [--peer]

SET is a folder with `A` (the images audited), `B` (a second split) and `truth.json`: groups of copies by
kind and strength, leaks, label conflicts, pairs to ignore. A pair within a group counts, however the group
was found; pairs of two images that show nothing, or of two outliers, count for nothing. F1 is over the kinds
exact, jpeg, resize, crop, brightness and mirror. --peer also finds pairs by pHash 16x16 of the pictures
themselves, plain and mirrored, at the distance that is best for it on this very set, and prints its versions.
Needs numpy; for --peer pillow and imagehash too.
"""
import argparse, collections, itertools, json, os, time

COUNTED = {"exact_file", "exact_pixels", "jpeg", "resize", "crop", "brightness", "mirror"}


def pair(a, b):
    return (a, b) if a < b else (b, a)


class Truth:
    def __init__(self, folder):
        truth = json.load(open(os.path.join(folder, "truth.json")))
        self.true, self.total = {}, collections.Counter()
        for group in truth["groups"]:
            members = [(group["original"], None)]
            members += [(m["path"], (m["kind"], m["strength"])) for m in group["members"]]
            for (a, _), (b, cell) in itertools.combinations(members, 2):
                cell = cell if a == group["original"] else ("family", "")
                self.true[pair(a, b)] = cell
                self.total[cell] += 1
        for same in truth["placeholders"]:
            self.true.update({pair(a, b): ("placeholder", "") for a, b in itertools.combinations(same, 2)})
        self.ignored = {pair(a, b) for a, b, _ in truth["natural"]["ignore"]}
        self.odd = {x["path"] for x in truth["low_information"] + truth["outliers"]}
        self.leaks = {(leak["a"], leak["b"]) for leak in truth["leaks"]}
        self.conflicts = {pair(*conflict["paths"]) for conflict in truth["label_conflicts"]}

    def counts(self, a, b):
        return pair(a, b) not in self.ignored and not (a in self.odd and b in self.odd)

    def score(self, pairs):
        """Precision over all, recall and F1 over the counted kinds, hits by cell, false pairs."""
        pairs = {p for p in pairs if self.counts(*p)}
        hits = collections.Counter(self.true[p] for p in pairs if p in self.true)
        false = sorted(p for p in pairs if p not in self.true)
        counted = sum(n for (kind, _), n in hits.items() if kind in COUNTED)
        all_counted = sum(n for (kind, _), n in self.total.items() if kind in COUNTED)
        precision = (len(pairs) - len(false)) / max(1, len(pairs))
        strict, recall = counted / max(1, counted + len(false)), counted / max(1, all_counted)
        return precision, recall, 2 * strict * recall / max(1e-9, strict + recall), hits, false


def show(name, truth, pairs):
    precision, recall, f1, hits, false = truth.score(pairs)
    print(f"{name}: P {precision:.4f} R {recall:.4f} F1 {f1:.4f}, {len(false)} false pairs")
    for cell, total in truth.total.items():
        print(f"  {cell[0]} {cell[1]}: {hits[cell] / total:.3f} of {total}")
    return false


def rates(name, found, true, ignored):
    found = {p for p in found if p not in ignored}
    hits = len(found & true)
    print(f"{name}: P {hits / max(1, len(found)):.4f} R {hits / max(1, len(true)):.4f} ({len(found) - hits} false)")


def of_json(truth, found):
    members = [["A/" + m["key"] for m in group["members"]] for group in found["duplicates"]]
    pairs = {pair(a, b) for group in members for a, b in itertools.combinations(group, 2)}
    print(f"threshold {found['threshold']}, false pairs expected {found['expected_false_pairs']}")
    false = show("vqtok audit", truth, pairs)
    label = {"A/" + m["key"]: m["label"] for group in found["duplicates"] for m in group["members"]}
    conflicts = {p for p in pairs if label[p[0]] != label[p[1]] and truth.counts(*p)}
    odd = {p for p in conflicts if p in truth.true and p not in truth.conflicts}  # placeholders
    rates("label conflicts", conflicts - odd, truth.conflicts, truth.ignored)
    leaks = {("A/" + leak["key"], "B/" + leak["other_key"]) for leak in found["leaks"]}
    rates("leaks", leaks, truth.leaks, truth.ignored)
    return false


def peer(folder, truth):
    import imagehash, numpy, PIL
    from PIL import Image, ImageOps

    begun = time.process_time()
    keys, hashes = [], [[], []]
    for root, folders, files in os.walk(os.path.join(folder, "A")):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(root, name)
            image = Image.open(path).convert("RGB")
            keys.append(os.path.relpath(path, folder))
            for to, image in zip(hashes, (image, ImageOps.mirror(image))):
                to.append(numpy.packbits(imagehash.phash(image, hash_size=16).hash))
    plain, mirrored = (numpy.stack(h).view(numpy.uint64) for h in hashes)
    distances = {}
    for at in range(len(keys)):
        for hashed in (plain, mirrored):
            near = numpy.bitwise_count(hashed[at + 1:] ^ plain[at]).sum(1, dtype=numpy.int32)
            for other in numpy.nonzero(near <= 100)[0]:
                p = pair(keys[at], keys[at + 1 + other])
                distances[p] = min(distances.get(p, 999), int(near[other]))
    within = lambda limit: {p for p, d in distances.items() if d <= limit}
    limit = max(range(0, 101, 2), key=lambda limit: truth.score(within(limit))[2])
    spent = time.process_time() - begun
    versions = f"imagehash {imagehash.__version__}, Pillow {PIL.__version__}, numpy {numpy.__version__}"
    print(f"\n{versions}: {spent:.1f} CPU-s; best distance {limit} of 256")
    show("pHash 16x16 + mirror", truth, within(limit))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set")
    parser.add_argument("found")
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--false", action="store_true", help="list the false pairs")
    args = parser.parse_args()
    truth = Truth(args.set)
    false = of_json(truth, json.load(open(args.found)))
    if args.false:
        print("\n".join(f"  {a}  {b}" for a, b in false))
    if args.peer:
        peer(args.set, truth)


if __name__ == "__main__":
    main()
