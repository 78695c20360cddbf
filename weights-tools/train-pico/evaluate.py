"""Accuracy by type on bench/pico-eval, of models/pico-llava in PyTorch, seen and blank.

    python evaluate.py

"blank" asks the same questions about a uniform light image: what the answers are
worth without seeing.
"""

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

import scenes
from model import PicoLlava
from tokenizer import EOS, Tokenizer

ROOT = Path(__file__).resolve().parents[2]


def normal(text):
    return text.strip().lower().removesuffix(".")


def named_objects(text):
    """The (colour, shape) pairs of a caption, or None where it is not a list of such objects."""
    pairs = []
    for part in re.split(r",| and ", normal(text)):
        words = part.split()
        if len(words) != 3 or words[0] not in ("a", "an"):
            return None
        pairs.append(" ".join(words[1:]))
    return sorted(pairs)


def right(question, answer):
    """Exact match after `normal`; a caption must name each object and no other, in any order."""
    if question["type"] == "caption":
        return named_objects(answer) == sorted(question["objects"])
    return normal(answer) == normal(question["answer"])


def load(folder):
    tokenizer = Tokenizer.load(folder)
    model = PicoLlava(tokenizer.rows)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.float().eval(), tokenizer


def answers(model, tokenizer, images, asked):
    """Greedy answers to [(image number, question)], images uint8 [B,168,168,3]; each question is asked alone."""
    with torch.no_grad():
        caches = model.prefix(torch.from_numpy(images), torch.tensor(tokenizer.prefix))
    by_length = defaultdict(list)  # prompts of equal length run as one batch
    for i, (_, question) in enumerate(asked):
        by_length[len(tokenizer.prompt(question["question"]))].append(i)
    result = [None] * len(asked)
    for group in by_length.values():
        of = torch.tensor([asked[i][0] for i in group])
        ids = torch.tensor([[tokenizer.prompt(asked[i][1]["question"])] for i in group])
        said = model.answer(ids, [(k[of], v[of]) for k, v in caches], EOS)
        for i, row in zip(group, said[:, 0].tolist()):
            result[i] = tokenizer.decode(row)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "pico-llava")
    parser.add_argument("--eval", type=Path, default=ROOT / "bench" / "pico-eval")
    parser.add_argument("--wrong", type=int, default=0, help="print this many wrong answers of each type")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, tokenizer = load(args.model)

    with open(args.eval / "questions.jsonl", encoding="utf-8") as lines:
        questions = [json.loads(line) for line in lines]
    sheet = np.asarray(Image.open(args.eval / "scenes.png").convert("RGB"))
    rows, columns = sheet.shape[0] // scenes.SIZE, sheet.shape[1] // scenes.SIZE
    tiles = sheet.reshape(rows, scenes.SIZE, columns, scenes.SIZE, 3).swapaxes(1, 2)

    hits = {"seen": defaultdict(list), "blank": defaultdict(list)}
    wrong = defaultdict(list)
    for row in range(rows):
        part = [question for question in questions if question["scene"] // columns == row]
        blank = np.asarray(scenes.blank())[None]
        seen = answers(model, tokenizer, np.ascontiguousarray(tiles[row]), [(q["scene"] % columns, q) for q in part])
        unseen = answers(model, tokenizer, blank.copy(), [(0, q) for q in part])
        for question, answer, guess in zip(part, seen, unseen):
            kind, ok = question["type"], right(question, answer)
            hits["seen"][kind].append(ok)
            hits["blank"][kind].append(right(question, guess))
            if not ok:
                wrong[kind].append((question["id"], question["question"], answer, question["answer"]))

    print(f"{'type':10} {'n':>5} {'seen':>6} {'blank':>6}")
    for kind in scenes.KINDS:
        seen, blank = hits["seen"][kind], hits["blank"][kind]
        print(f"{kind:10} {len(seen):5} {np.mean(seen):6.3f} {np.mean(blank):6.3f}")
        for number, question, answer, truth in wrong[kind][: args.wrong]:
            print(f"    {number}: {question} -> {answer} (true: {truth})")


if __name__ == "__main__":
    main()
