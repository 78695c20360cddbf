"""Trains pico-llava in three stages, each started from the checkpoint of the one before.

    tower      the vision tower alone, with heads that name what lies in a patch's cell
    decoder8   projector and a decoder of 8 layers, the tower frozen
    decoder16  the same with 8 more layers that begin as the identity; the rate decays to zero

    python train.py tower --minutes 8.5
    python train.py decoder8 --minutes 45
    python train.py decoder16 --minutes 25

A stage writes OUT/<stage>.pt every two minutes and one line of OUT/curve.jsonl at
every measurement; --resume goes on from that checkpoint.
"""

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import scenes
from model import GRID, HIDDEN, PicoLlava, TextLayer, grow, preprocess, rope_tables, rotate
from model import HEADS as TEXT_HEADS
from tokenizer import Tokenizer

OUT = Path(__file__).resolve().parents[2] / "build" / "pico-train"
STAGES = {"tower": None, "decoder8": "tower", "decoder16": "decoder8"}
LAYERS = {"tower": 8, "decoder8": 8, "decoder16": 16}
HELD_OUT_SEED = 977  # scenes for the measurements while training; the published set has another seed

# Questions per image and kind, next to one caption.
MIX = {"colour": 3, "shape": 2, "at": 2, "where": 3, "count": 5, "relation": 5}
IGNORE = -100
# Tokens of the longest question with its answer, and of the longest caption. Every
# batch is padded to these, so that --compile compiles once.
SHORT, LONG = 15, 33

# The layers whose attention is taught where to look, see looking_loss and caption_loss.
LOOK_LAYERS, SAY_LAYERS, CAPTION_LAYERS = (1, 3), (4, 5), (5, 6)


# Optimisers


def orthogonalise(matrices, steps=5):
    """The nearest (semi-)orthogonal matrix of each of [K,rows,cols], by a quintic Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(1, 2) if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum whose step is orthogonalised: every direction of a matrix moves by the same amount."""

    def __init__(self, params, lr, momentum=0.95):
        super().__init__(params, dict(lr=lr, momentum=momentum))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = {}
            for p in group["params"]:
                by_shape.setdefault(tuple(p.shape), []).append(p)
            for shape, params in by_shape.items():
                updates = []
                for p in params:
                    buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    buffer.lerp_(p.grad, 1 - group["momentum"])
                    updates.append(p.grad.lerp(buffer, group["momentum"]))
                scale = max(1, shape[0] / shape[1]) ** 0.5
                for p, update in zip(params, orthogonalise(torch.stack(updates))):
                    p.add_(update, alpha=-group["lr"] * scale)


def optimisers(named, muon_lr, adam_lr):
    """Muon on the matrices inside the network, AdamW on embeddings, heads, norms and biases."""
    matrices, others = [], []
    for name, p in named:
        inner = p.ndim == 2 and not any(part in name for part in ("embed", "lm_head", "heads"))
        (matrices if inner else others).append(p)
    adam = torch.optim.AdamW(others, lr=adam_lr, betas=(0.9, 0.98), weight_decay=0.0)
    return [Muon(matrices, muon_lr), adam]


def rate(step, progress, warmup, decay_from):
    """The factor on the learning rates: a warm-up by steps, then a linear decay by time."""
    fall = 1.0 if progress < decay_from else max(0.0, (1 - progress) / (1 - decay_from))
    return min(1.0, (step + 1) / warmup) * fall


# Stage 1: the tower


SIDES = [i * 3 // GRID for i in range(GRID)]  # row of cells by row of patches, and so for columns
CELL_OF_PATCH = torch.tensor([3 * row + column for row in SIDES for column in SIDES])
N_SHAPES, N_COLOURS = len(scenes.SHAPES) + 1, len(scenes.COLOURS) + 1  # one more: nothing there
# What the heads name for every patch: shape and colour in its cell and in the four
# neighbouring cells, then the cell itself. Neighbours are what relations are about.
HEADS = [N_SHAPES, N_COLOURS] * 5 + [9]
NEIGHBOURS = [(0, 0)] + list(scenes.RELATIONS.values())


def cell_labels(scene):
    """[9, len(HEADS)] labels by cell; IGNORE where the neighbour would be outside the grid."""
    labels = np.zeros((9, len(HEADS)), dtype=np.int64)
    held = {item.cell: item for item in scene.objects}
    colours = list(scenes.COLOURS)
    for cell in range(9):
        row, column = divmod(cell, 3)
        for i, (down, right) in enumerate(NEIGHBOURS):
            r, c = row + down, column + right
            if not (0 <= r < 3 and 0 <= c < 3):
                labels[cell, 2 * i : 2 * i + 2] = IGNORE
            elif 3 * r + c in held:
                item = held[3 * r + c]
                labels[cell, 2 * i] = 1 + scenes.SHAPES.index(item.shape)
                labels[cell, 2 * i + 1] = 1 + colours.index(item.colour)
        labels[cell, -1] = cell
    return labels


def pixels(batch):
    """Scenes -> uint8 [B,168,168,3]"""
    return torch.from_numpy(np.stack([np.asarray(scenes.draw(scene)) for scene in batch]))


def tower_batch(rng, size):
    # Up to 9 objects here, not 6: more to learn from per image.
    batch = [scenes.random_scene(rng, rng.randint(2, 9)) for _ in range(size)]
    labels = torch.from_numpy(np.stack([cell_labels(scene) for scene in batch]))  # [B,9,heads]
    return pixels(batch), labels[:, CELL_OF_PATCH]  # labels [B,144,heads]


class Tower(nn.Module):
    """The vision tower of `model` with the heads that are taken off afterwards."""

    def __init__(self, model):
        super().__init__()
        self.vision = model.vision_tower.vision_model
        self.heads = nn.Linear(HIDDEN, sum(HEADS))

    def forward(self, images):
        return self.heads(self.vision(preprocess(images))).split(HEADS, -1)


def tower_loss(outputs, labels):
    total = 0.0
    for i, out in enumerate(outputs):
        weight = 1.0 if i < 2 else 0.3
        total = total + weight * F.cross_entropy(out.flatten(0, 1), labels[..., i].flatten(), ignore_index=IGNORE)
    return total


@torch.no_grad()
def tower_score(tower, images, labels):
    """Accuracy of the heads over patches whose cell (or neighbouring cell) holds an object."""
    hits = {"shape": [], "colour": [], "next shape": [], "next colour": []}
    for i, out in enumerate(tower(images)[:-1]):
        name = ("" if i < 2 else "next ") + ("shape", "colour")[i % 2]
        there = labels[..., i] > 0
        hits[name].append((out.argmax(-1) == labels[..., i])[there].float())
    return {name: round(torch.cat(values).mean().item(), 4) for name, values in hits.items()}


# Stages 2 and 3: projector and decoder


def word_codes(embeddings, tokenizer):
    """[sum(HEADS), H]: what each output of the heads is in words, as the embeddings of these words."""

    def word(text):
        return embeddings[tokenizer.answer(text)[:-1]].sum(0)

    generator = torch.Generator().manual_seed(0)
    codes = []
    for i in range(len(NEIGHBOURS)):
        turn = torch.eye(HIDDEN)
        if i:  # a neighbour's words are turned, by another rotation on each side, and fainter
            turn = 0.5 * torch.linalg.qr(torch.randn(HIDDEN, HIDDEN, generator=generator))[0]
        nothing = 0.5 * word("nothing") @ turn
        codes += [nothing] + [word(shape) @ turn for shape in scenes.SHAPES]
        codes += [nothing] + [word(colour) @ turn for colour in scenes.COLOURS]
    codes += [0.7 * word(place) for place in scenes.PLACES]
    return torch.stack(codes)


@torch.no_grad()
def start_projector(model, heads, tokenizer):
    """Begin with a projector that turns the heads' verdicts into words.

    Hidden unit i is output i of the heads, shifted and scaled so that it is about
    STRENGTH where class i is true and negative (nothing, after GELU) where it is
    not; it adds the embedding of the word for the class. An image token is then the
    sum of the words for what it shows, and a question finds it by its own words:
    without this the decoder took long to look anything up by shape.
    """
    strength = 4.0
    images, labels = tower_batch(random.Random(0), 64)
    features = model.vision_tower.vision_model(preprocess(images)).flatten(0, 1)
    outputs = features @ heads["heads.weight"].T + heads["heads.bias"]
    labels = labels.flatten(0, 1)
    known = [F.one_hot(labels[:, i].clamp(min=0), n) * (labels[:, i : i + 1] >= 0) for i, n in enumerate(HEADS)]
    truth = torch.cat(known, 1)
    high = (outputs * truth).sum(0) / truth.sum(0)
    low = (outputs * (1 - truth)).sum(0) / (1 - truth).sum(0)
    middle, gain = (high + low) / 2, 2 * strength / (high - low)
    used = len(middle)
    first, second = model.multi_modal_projector.linear_1, model.multi_modal_projector.linear_2
    first.weight[:used] = heads["heads.weight"] * gain[:, None]
    first.bias[:used] = (heads["heads.bias"] - middle) * gain
    second.weight[:, :used] = word_codes(model.language_model.model.embed_tokens.weight, tokenizer).T / strength
    first.weight[used:] *= 0.1
    second.bias.zero_()
    # The head begins as the embedding, so that naming a word is copying it.
    model.language_model.lm_head.weight.copy_(0.15 * model.language_model.model.embed_tokens.weight)


def caption_cells(scene):
    """Where each token of the caption but the end looks: "a", colour and shape at
    their object, "," and "and" at the next."""
    cells = []
    for item in scene.objects:
        cells += [item.cell] * (4 if cells else 3)
    return cells


def branches(scene, rng, tokenizer):
    """MIX's questions about one scene as [(kind, prompt ids, answer ids, cell)], and its caption."""
    found = []
    kinds = [kind for kind, number in MIX.items() for _ in range(number)]
    for kind in kinds:
        # A scene that allows no question of this kind gets one that every scene allows.
        asked = scenes.ask(scene, kind, rng)
        if asked is None:
            kind = rng.choice(["at", "where", "count"])
            asked = scenes.ask(scene, kind, rng)
        found.append((kind, tokenizer.prompt(asked.text), tokenizer.answer(asked.answer), asked.cell))
    asked = scenes.ask(scene, "caption", rng)
    return found, ("caption", tokenizer.prompt(asked.text), tokenizer.answer(asked.answer), caption_cells(scene))


def pad(rows, fill, length):
    """Branches [(kind, prompt, answer, cell)] of B scenes x N -> ids and targets [B,N,L]; padding is never attended to."""
    ids = torch.full((len(rows), len(rows[0]), length), fill)
    targets = torch.full_like(ids, IGNORE)
    for i, row in enumerate(rows):
        for j, (_, prompt, answer, _) in enumerate(row):
            whole = torch.tensor(prompt + answer)
            ids[i, j, : len(whole) - 1] = whole[:-1]
            targets[i, j, len(prompt) - 1 : len(whole) - 1] = whole[len(prompt) :]
    return ids, targets


def decoder_batch(rng, size, most, tokenizer):
    """Images and two groups of branches; the long captions stand apart so that little is padding."""
    batch = [scenes.random_scene(rng, rng.randint(1, most)) for _ in range(size)]
    asked = [branches(scene, rng, tokenizer) for scene in batch]
    short = [row for row, _ in asked]
    long = [[last] for _, last in asked]
    return pixels(batch), [(short, *pad(short, tokenizer.pad, SHORT)), (long, *pad(long, tokenizer.pad, LONG))]


def log_attention(layer, x, queries, cache, heads, n):
    """Logarithms of a layer's attention weights, [M,heads,P+L], of the tokens `queries` = (image, branch, token), [M] each.

    x [B,n*L,H] is the input of the layer, cache the keys and values of its prefix.
    """
    image, branch, token = queries
    length = x.shape[1] // n
    prefix = cache[0][:, heads]  # [B,heads,P,head_dim]
    positions = prefix.shape[2] + torch.arange(length, device=x.device)
    cos, sin = rope_tables(positions)
    x = layer.input_layernorm(x).unflatten(1, (n, length))[image, branch]  # [M,L,H]
    own = layer.self_attn.k_proj(x).unflatten(-1, (TEXT_HEADS, -1)).transpose(1, 2)[:, heads]
    own = rotate(own, cos, sin)  # [M,heads,L,head_dim]
    q = layer.self_attn.q_proj(x[torch.arange(len(x), device=x.device), token]).unflatten(-1, (TEXT_HEADS, -1))[:, heads]
    q = rotate(q, cos[token, None], sin[token, None]) * q.shape[-1] ** -0.5
    scores = torch.cat([torch.einsum("mhd,mhpd->mhp", q, prefix[image]), torch.einsum("mhd,mhld->mhl", q, own)], -1)
    future = positions - prefix.shape[2] > token[:, None]
    future = F.pad(future, (prefix.shape[2], 0))
    return scores.masked_fill(future[:, None], float("-inf")).log_softmax(-1)


def image_loss(model, inputs, caches, numbers, queries, cells, n):
    """How far the first two heads of the layers look past `cells` at the tokens `queries`, lists of M."""
    device = inputs[0].device
    queries = torch.tensor(queries, device=device).unbind(1)
    wanted = CELL_OF_PATCH.to(device) == torch.tensor(cells, device=device)[:, None]  # [M,144]
    total = 0.0
    for number in numbers:
        layer, cache = model.language_model.model.layers[number], caches[number]
        end = cache[0].shape[2]
        log = log_attention(layer, inputs[number], queries, cache, slice(0, 2), n)[..., end - GRID * GRID : end]
        total = total - log.masked_fill(~wanted[:, None], float("-inf")).logsumexp(-1).mean()
    return total


def looking_loss(model, inputs, caches, rows):
    """How far some heads look past what a question is about; teaches the two hops of a look-up.

    First the last word of the question (before "? ASSISTANT :") shall attend to the
    16 patches of the cell in question, then the tokens that say the answer shall
    attend to that word. By itself the decoder finds the second hop only after very
    many images: among 144 patches one word is hard to notice.
    """
    words, sayers, cells = [], [], []
    for i, row in enumerate(rows):
        for j, (_, prompt, answer, cell) in enumerate(row):
            if cell is not None:
                word = len(prompt) - 4
                words.append((i, j, word))
                cells.append(cell)
                sayers += [(i, j, len(prompt) - 1 + k, word) for k in range(len(answer))]
    total = image_loss(model, inputs, caches, LOOK_LAYERS, words, cells, len(rows[0]))
    *sayers, heard = torch.tensor(sayers, device=inputs[0].device).unbind(1)
    for number in SAY_LAYERS:
        layer = model.language_model.model.layers[number]
        log = log_attention(layer, inputs[number], sayers, caches[number], slice(2, 4), len(rows[0]))
        at = (caches[number][0].shape[2] + heard)[:, None, None].expand(-1, 2, 1)
        total = total - log.gather(-1, at).mean()
    return total


def caption_loss(model, inputs, caches, rows):
    """The same for captions: each token looks at the object it is about."""
    queries, cells = [], []
    for i, row in enumerate(rows):
        for j, (_, prompt, _, row_cells) in enumerate(row):
            queries += [(i, j, len(prompt) - 1 + k) for k in range(len(row_cells))]
            cells += row_cells
    return image_loss(model, inputs, caches, CAPTION_LAYERS, queries, cells, len(rows[0]))


def answer_loss(model, caches, groups, looking):
    """Mean loss over the answer tokens of all groups, and `looking` times that of where the attention looks."""
    hidden, wanted, extra = [], [], 0.0
    for number, (rows, ids, targets) in enumerate(groups):
        at = targets != IGNORE
        inputs = []
        hidden.append(model.language_model.model.branches(ids, caches, inputs)[at])
        wanted.append(targets[at])
        if looking:
            extra = extra + looking * (caption_loss if number else looking_loss)(model, inputs, caches, rows)
    loss = F.cross_entropy(model.language_model.lm_head(torch.cat(hidden)), torch.cat(wanted))
    return loss, extra


@torch.no_grad()
def decoder_score(model, prefix, held_out):
    """Share of questions answered right, by kind. With the true answer as input, an answer is
    right at every token exactly when the greedy answer is right."""
    hits = {}
    for images, groups in held_out:
        caches = model.prefix(images, prefix)
        for rows, ids, targets in groups:
            right = ((model.logits(ids, caches).argmax(-1) == targets) | (targets == IGNORE)).all(-1)
            for row, row_right in zip(rows, right.tolist()):
                for (kind, *_), ok in zip(row, row_right):
                    hits.setdefault(kind, []).append(ok)
    return {kind: round(sum(v) / len(v), 3) for kind, v in sorted(hits.items())}


def most_objects(stage, progress):
    """The curriculum: how many objects a scene may have."""
    if stage != "decoder8":
        return scenes.MAX_OBJECTS
    return 2 if progress < 0.08 else 3 if progress < 0.13 else 4 if progress < 0.18 else scenes.MAX_OBJECTS


# The loop


def to(device, batch):
    images, groups = batch
    return images.to(device), [(rows, ids.to(device), targets.to(device)) for rows, ids, targets in groups]


def train(args):
    torch.set_num_threads(args.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    tokenizer = Tokenizer()
    model = PicoLlava(tokenizer.rows, 8)
    if STAGES[args.stage] and not args.resume:
        before = torch.load(args.out / f"{STAGES[args.stage]}.pt", map_location="cpu")
        model.load_state_dict(before["model"])
        if args.stage == "decoder8":
            start_projector(model, before["trained"], tokenizer)
    model = grow(model, LAYERS[args.stage]).to(device)

    is_tower = args.stage == "tower"
    if is_tower:
        trained = Tower(model).to(device)
        named = trained.named_parameters()
    else:
        model.vision_tower.requires_grad_(False)
        trained = model
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    named = list(named)
    if args.compile and not is_tower:
        TextLayer.prefix = torch.compile(TextLayer.prefix, dynamic=False)
        TextLayer.branches = torch.compile(TextLayer.branches, dynamic=False)
    opts = optimisers(named, args.muon, args.adam)
    for opt in opts:
        for group in opt.param_groups:
            group["base"] = group["lr"]

    step, elapsed, images_seen = 0, 0.0, 0
    path = args.out / f"{args.stage}.pt"
    if args.resume:
        saved = torch.load(path, map_location=device, weights_only=False)
        model.load_state_dict(saved["model"])
        trained.load_state_dict(saved["trained"])
        for opt, state in zip(opts, saved["optimisers"]):
            opt.load_state_dict(state)
        step, elapsed, images_seen = saved["step"], saved["elapsed"], saved["images"]
        rng.setstate(saved["rng"])

    prefix = torch.tensor(tokenizer.prefix, device=device)
    held_rng = random.Random(HELD_OUT_SEED)
    if is_tower:
        held_out = [t.to(device) for t in tower_batch(held_rng, 64)]
    else:
        held_out = [decoder_batch(held_rng, args.batch, scenes.MAX_OBJECTS, tokenizer) for _ in range(80 // args.batch)]
        held_out = [to(device, batch) for batch in held_out]

    began = time.time() - elapsed
    last_score = last_save = elapsed
    losses, extras = [], []

    def save():
        args.out.mkdir(parents=True, exist_ok=True)
        state = {
            "model": model.state_dict(),
            "trained": trained.state_dict(),
            "optimisers": [opt.state_dict() for opt in opts],
            "step": step,
            "elapsed": elapsed,
            "images": images_seen,
            "rng": rng.getstate(),
        }
        torch.save(state, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)

    def measure():
        score = tower_score(trained, *held_out) if is_tower else decoder_score(model, prefix, held_out)
        line = {"stage": args.stage, "minutes": round(elapsed / 60, 2), "step": step, "images": images_seen}
        line |= {"loss": round(sum(losses) / max(1, len(losses)), 4), "score": score}
        line["looking"] = round(sum(extras) / max(1, len(extras)), 4)
        losses.clear()
        extras.clear()
        print(json.dumps(line), flush=True)
        args.out.mkdir(parents=True, exist_ok=True)
        with open(args.out / "curve.jsonl", "a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")

    while elapsed < args.minutes * 60:
        progress = elapsed / (args.minutes * 60)
        factor = rate(step, progress, args.warmup, args.decay_from)
        for opt in opts:
            for group in opt.param_groups:
                group["lr"] = group["base"] * factor
        if is_tower:
            images, labels = tower_batch(rng, args.batch)
            loss, extra = tower_loss(trained(images.to(device)), labels.to(device)), 0.0
        else:
            most = most_objects(args.stage, progress)
            images, groups = to(device, decoder_batch(rng, args.batch, most, tokenizer))
            loss, extra = answer_loss(model, model.prefix(images, prefix), groups, args.looking)
        for _, p in named:
            p.grad = None
        (loss + extra).backward()
        for _, p in named:
            if p.grad is None:  # the tower's last layer, which LLaVA never runs
                p.grad = torch.zeros_like(p)
        for opt in opts:
            opt.step()
        losses.append(loss.item())
        extras.append(float(extra.detach()) if args.looking and not is_tower else 0.0)
        step, images_seen, elapsed = step + 1, images_seen + args.batch, time.time() - began
        if elapsed - last_score > args.score_every:
            measure()
            last_score = elapsed
        if elapsed - last_save > 120:
            save()
            last_save = elapsed
    measure()
    save()


DEFAULTS = {
    #            batch, Muon, AdamW, decay from
    "tower": (16, 0.01, 1.5e-3, 0.68),
    "decoder8": (4, 0.01, 3e-3, 1.0),
    "decoder16": (4, 0.006, 2e-3, 0.0),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=list(STAGES))
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--compile", action="store_true", help="fuse the layers; needs a C++ compiler, saves a fifth")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--score-every", type=float, default=120, help="seconds")
    parser.add_argument("--looking", type=float, default=0.2, help="weight of the loss on where the attention looks")
    parser.add_argument("--warmup", type=int, default=150, help="steps")
    for option, kind in (("batch", int), ("muon", float), ("adam", float), ("decay-from", float)):
        parser.add_argument(f"--{option}", type=kind)
    args = parser.parse_args()
    for option, value in zip(("batch", "muon", "adam", "decay_from"), DEFAULTS[args.stage]):
        if getattr(args, option) is None:
            setattr(args, option, value)
    train(args)


if __name__ == "__main__":
    main()
