"""Writes the held-out questions, bench/pico-eval, and the demo scenes, examples/images.

    python make_eval.py
"""

import argparse
import json
import random
from pathlib import Path

from PIL import Image, ImageDraw

import scenes

ROOT = Path(__file__).resolve().parents[2]
SEED = 20261  # no scene of the training comes from this seed
SCENES, COLUMNS, QUESTIONS = 340, 20, 2000
COUNTS = [1, 2, 3, 4, 5, 6, 3, 4, 5, 6]  # objects, in turn; small scenes have few relations to ask about

# The demo scenes by cell: (row, column, colour, shape, radius, dx, dy), pixels of a 168 tile.
DEMOS = [
    [(0, 0, "red", "circle", 20, 2, 1), (1, 2, "blue", "square", 19, -3, 0), (2, 1, "green", "star", 20, 0, -3)],
    [
        (0, 1, "yellow", "star", 21, 0, 2),
        (1, 0, "purple", "ring", 19, 3, -2),
        (1, 1, "black", "cross", 17, 0, 0),
        (2, 2, "orange", "triangle", 21, -2, -2),
    ],
    [
        (0, 0, "blue", "triangle", 18, 0, 3),
        (0, 2, "blue", "circle", 18, 0, 2),
        (1, 1, "blue", "star", 20, -2, 0),
        (2, 0, "red", "square", 17, 4, 0),
        (2, 2, "green", "ring", 20, 0, -2),
    ],
    [
        (0, 0, "cyan", "square", 18, 0, 0),
        (0, 1, "orange", "cross", 19, 1, 2),
        (1, 1, "purple", "triangle", 20, 0, 0),
        (1, 2, "red", "ring", 20, -1, 1),
        (2, 0, "green", "circle", 17, 3, -3),
        (2, 1, "yellow", "square", 19, 0, -1),
    ],
]
DEMO_BACKGROUNDS = [(240, 238, 232), (226, 232, 238), (236, 240, 228), (244, 240, 240)]
DEMO_WIDTH, DEMO_HEIGHT = 672, 504


def questions(drawn, rng):
    """About QUESTIONS / 7 of each kind, spread over the scenes as (scene, kind, question, answer)."""
    asked = []
    for i, kind in enumerate(scenes.KINDS):
        quota = QUESTIONS // len(scenes.KINDS) + (i < QUESTIONS % len(scenes.KINDS))
        order = list(range(len(drawn)))
        rng.shuffle(order)
        used, found, seen = {}, [], set()
        for index in order * 2:  # twice, as small scenes allow few relations
            # Answers that come up seldom are taken first, so that guessing the
            # commonest number or place earns little.
            tries = [scenes.ask(drawn[index], kind, rng) for _ in range(8 if kind in ("count", "where") else 1)]
            if len(found) == quota or tries[0] is None:
                continue
            question, answer, _ = min(tries, key=lambda one: used.get(one.answer, 0))
            if (index, question) in seen:
                continue
            seen.add((index, question))
            used[answer] = used.get(answer, 0) + 1
            found.append((index, kind, question, answer))
        assert len(found) == quota, kind
        asked += found
    return sorted(asked, key=lambda entry: entry[0])


def write_eval(folder):
    rng = random.Random(SEED)
    drawn = [scenes.random_scene(rng, COUNTS[i % len(COUNTS)]) for i in range(SCENES)]
    sheet = Image.new("RGB", (COLUMNS * scenes.SIZE, -(-SCENES // COLUMNS) * scenes.SIZE))
    for i, scene in enumerate(drawn):
        sheet.paste(scenes.draw(scene), (i % COLUMNS * scenes.SIZE, i // COLUMNS * scenes.SIZE))
    folder.mkdir(parents=True, exist_ok=True)
    sheet.save(folder / "scenes.png", optimize=True)
    with open(folder / "questions.jsonl", "w", encoding="utf-8") as out:
        for number, (index, kind, question, answer) in enumerate(questions(drawn, rng)):
            line = {"id": number, "scene": index, "type": kind, "question": question, "answer": answer}
            if kind == "caption":
                line["objects"] = [item.name for item in drawn[index].objects]
            out.write(json.dumps(line) + "\n")


def write_demos(folder):
    """672x504 images whose centre square, 504x504, holds the 3x3 grid."""
    folder.mkdir(parents=True, exist_ok=True)
    margin = (DEMO_WIDTH - DEMO_HEIGHT) / 2
    for number, (objects, background) in enumerate(zip(DEMOS, DEMO_BACKGROUNDS), 1):
        large = Image.new("RGB", (2 * DEMO_WIDTH, 2 * DEMO_HEIGHT), background)
        pen = ImageDraw.Draw(large)
        for row, column, colour, shape, radius, dx, dy in objects:
            x, y = (column + 0.5) * scenes.CELL + dx, (row + 0.5) * scenes.CELL + dy
            item = scenes.Object(shape, colour, 3 * row + column, x, y, radius, scenes.COLOURS[colour])
            scenes.draw_object(pen, item, background, 2 * DEMO_HEIGHT / scenes.SIZE, 2 * margin)
        large.resize((DEMO_WIDTH, DEMO_HEIGHT), Image.BICUBIC).save(folder / f"scene-{number}.png", optimize=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eval", type=Path, default=ROOT / "bench" / "pico-eval")
    parser.add_argument("--demos", type=Path, default=ROOT / "examples" / "images")
    args = parser.parse_args()
    write_eval(args.eval)
    write_demos(args.demos)


if __name__ == "__main__":
    main()
