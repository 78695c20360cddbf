"""Synthetic scenes and the questions about them: the one owner of both.

A scene is a flat light background with 1 to 6 objects, each a shape in a colour,
each inside its own cell of a 3x3 grid. Cells are numbered in raster order:

    0 1 2
    3 4 5
    6 7 8

No two objects of a scene share both colour and shape, so "the red circle" is
never ambiguous. Everything random comes from the `random.Random` passed in.
"""

import math
import random
from dataclasses import dataclass
from typing import NamedTuple, Optional

from PIL import Image, ImageDraw

SIZE = 168  # side of the image that the model sees
CELL = SIZE / 3

SHAPES = ["circle", "square", "triangle", "star", "cross", "ring"]
COLOURS = {
    "red": (214, 39, 40),
    "green": (44, 150, 60),
    "blue": (40, 80, 210),
    "yellow": (242, 208, 20),
    "purple": (140, 50, 170),
    "orange": (250, 125, 15),
    "cyan": (40, 200, 220),
    "black": (25, 25, 25),
}
PLACES = ["top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right"]
# What a relation adds to (row, column) to reach the cell that it speaks of.
RELATIONS = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}

# The phrasings; few on purpose, a model of this size has better uses for its weights.
PHRASES = {
    "colour": ["What colour is the {shape}?", "What color is the {shape}?"],
    "shape": ["Which shape is {colour}?", "What shape is the {colour} object?"],
    "at": ["What is at the {place}?", "What do you see at the {place}?"],
    "where": ["Where is the {object}?", "Where do you see the {object}?"],
    "count": ["How many objects are there?", "How many objects do you see?"],
    "count colour": ["How many {colour} objects are there?", "How many {colour} objects do you see?"],
    "relation": ["What is {relation} the {object}?", "Which object is {relation} the {object}?"],
    "caption": ["Describe the image.", "What is in the image?"],
}
KINDS = ["colour", "shape", "at", "where", "count", "relation", "caption"]
MAX_OBJECTS = 6


@dataclass(frozen=True)
class Object:
    shape: str
    colour: str
    cell: int
    x: float  # centre, in pixels of the 168 image
    y: float
    radius: float
    rgb: tuple

    @property
    def name(self):
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    background: tuple
    objects: tuple  # in raster order of their cells


def random_background(rng):
    """A light shade with a slight tint."""
    shade = rng.randint(205, 250)
    return tuple(min(255, shade + rng.randint(-6, 6)) for _ in range(3))


def place(rng, shape, colour, cell):
    """An object of random size, somewhere inside its cell."""
    radius = rng.uniform(14, 22)
    room = CELL / 2 - 1.12 * radius - 1  # 1.12: the reach of a star
    row, column = divmod(cell, 3)
    x = (column + 0.5) * CELL + rng.uniform(-room, room)
    y = (row + 0.5) * CELL + rng.uniform(-room, room)
    rgb = tuple(max(0, min(255, c + rng.randint(-10, 10))) for c in COLOURS[colour])
    return Object(shape, colour, cell, x, y, radius, rgb)


def random_scene(rng, count):
    """A scene of `count` objects (1 to 9)."""
    # Independent colours repeat too seldom for "how many red objects" to have
    # answers above 1, so in half of the scenes most objects share one of them.
    style = rng.random()
    favourite = rng.choice(list(COLOURS)) if style < 0.5 else None
    pairs = []
    while len(pairs) < count:
        colour = favourite if favourite and rng.random() < 0.6 else rng.choice(list(COLOURS))
        pair = (rng.choice(SHAPES), colour)
        if pair not in pairs:
            pairs.append(pair)
    cells = sorted(rng.sample(range(9), count))
    objects = tuple(place(rng, shape, colour, cell) for (shape, colour), cell in zip(pairs, cells))
    return Scene(random_background(rng), objects)


class Question(NamedTuple):
    text: str
    answer: str
    cell: Optional[int]  # where one has to look, or None if that is everywhere


# Drawing


def _star(x, y, r):
    points = []
    for i in range(10):
        reach = r * 1.12 if i % 2 == 0 else r * 0.45
        angle = math.pi * (i / 5 - 0.5)
        points.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
    return points


def _cross(x, y, r):
    t = r * 0.36
    corners = [(-t, -r), (t, -r), (t, -t), (r, -t), (r, t), (t, t), (t, r), (-t, r), (-t, t), (-r, t), (-r, -t), (-t, -t)]
    return [(x + dx, y + dy) for dx, dy in corners]


def draw_object(pen, item, background, scale, left=0.0):
    """Draw one object at `scale` times its size, shifted right by `left` drawn pixels."""
    x, y, r = left + item.x * scale, item.y * scale, item.radius * scale
    box = (x - r, y - r, x + r, y + r)
    if item.shape == "circle":
        pen.ellipse(box, fill=item.rgb)
    elif item.shape == "ring":
        pen.ellipse(box, fill=item.rgb)
        inner = r * 0.55
        pen.ellipse((x - inner, y - inner, x + inner, y + inner), fill=background)
    elif item.shape == "square":
        side = r * 0.9
        pen.rectangle((x - side, y - side, x + side, y + side), fill=item.rgb)
    elif item.shape == "triangle":
        pen.polygon([(x, y - r), (x + r, y + r * 0.8), (x - r, y + r * 0.8)], fill=item.rgb)
    elif item.shape == "star":
        pen.polygon(_star(x, y, r), fill=item.rgb)
    else:
        pen.polygon(_cross(x, y, r), fill=item.rgb)


def draw(scene):
    """The scene as a 168x168 RGB image, drawn at twice the size for smooth edges."""
    large = Image.new("RGB", (2 * SIZE, 2 * SIZE), scene.background)
    pen = ImageDraw.Draw(large)
    for item in scene.objects:
        draw_object(pen, item, scene.background, 2)
    return large.resize((SIZE, SIZE), Image.BICUBIC)


def blank(shade=230):
    """The image that tells what a model answers without seeing anything."""
    return Image.new("RGB", (SIZE, SIZE), (shade, shade, shade))


# Questions


def caption(scene):
    """ "a red circle, a blue square and a green star", in raster order."""
    names = [f"{'an' if item.colour == 'orange' else 'a'} {item.name}" for item in scene.objects]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _only(values):
    """The values that occur exactly once."""
    return sorted(v for v in set(values) if values.count(v) == 1)


def ask(scene, kind, rng):
    """One question of `kind`, or None if the scene allows none."""
    objects = scene.objects
    phrase = rng.choice(PHRASES[kind])
    if kind == "colour":
        shapes = _only([item.shape for item in objects])
        if not shapes:
            return None
        shape = rng.choice(shapes)
        item = next(item for item in objects if item.shape == shape)
        return Question(phrase.format(shape=shape), item.colour, item.cell)
    if kind == "shape":
        colours = _only([item.colour for item in objects])
        if not colours:
            return None
        colour = rng.choice(colours)
        item = next(item for item in objects if item.colour == colour)
        return Question(phrase.format(colour=colour), item.shape, item.cell)
    if kind == "at":
        held = {item.cell: item.name for item in objects}
        empty = [cell for cell in range(9) if cell not in held]
        cell = rng.choice(empty) if empty and rng.random() < 0.25 else rng.choice(sorted(held))
        return Question(phrase.format(place=PLACES[cell]), held.get(cell, "nothing"), cell)
    if kind == "where":
        item = rng.choice(objects)
        return Question(phrase.format(object=item.name), PLACES[item.cell], item.cell)
    if kind == "count":
        if rng.random() < 0.5:
            return Question(phrase, str(len(objects)), None)
        tally = {colour: 0 for colour in COLOURS}
        for item in objects:
            tally[item.colour] += 1
        # First the answer, then a colour that has it: otherwise most answers are 0.
        number = rng.choice(sorted(set(tally.values())))
        colour = rng.choice([c for c in COLOURS if tally[c] == number])
        return Question(rng.choice(PHRASES["count colour"]).format(colour=colour), str(number), None)
    if kind == "relation":
        held = {item.cell: item for item in objects}
        facts = []
        for item in objects:
            row, column = divmod(item.cell, 3)
            for relation, (down, right) in RELATIONS.items():
                r, c = row + down, column + right
                if 0 <= r < 3 and 0 <= c < 3 and 3 * r + c in held:
                    facts.append((relation, item, held[3 * r + c].name))
        if not facts:
            return None
        relation, item, answer = rng.choice(facts)
        return Question(phrase.format(relation=relation, object=item.name), answer, item.cell)
    return Question(phrase, caption(scene), None)


def sentences():
    """Every sentence form with every word that can fill it: what the tokenizer is trained on."""
    fill = {
        "shape": SHAPES,
        "colour": list(COLOURS),
        "place": PLACES,
        "relation": list(RELATIONS),
        "object": [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES],
    }
    result = []
    for phrases in PHRASES.values():
        for phrase in phrases:
            forms = [phrase]
            for slot, words in fill.items():
                slot = "{" + slot + "}"
                if slot in phrase:
                    forms = [form.replace(slot, word) for form in forms for word in words]
            result += forms
    return result


def answer_words():
    """Every word that an answer can hold."""
    words = set(SHAPES) | set(COLOURS) | {word for place in PLACES for word in place.split()}
    return sorted(words | {"a", "an", "and", "nothing"} | {str(n) for n in range(10)})
