/** A small RGB canvas: what pictures for people are put together on. It needs no fonts, which servers seldom have. */

export type Colour = readonly [red: number, green: number, blue: number];

/** Glyphs of 5 x 9 points, one digit of base 32 per row from the top; the last two rows hang below the line. */
const glyphs: Readonly<Record<string, string>> = {
  "0": "ehjlphe00",
  "1": "4c4444e00",
  "2": "eh1248v00",
  "3": "eh161he00",
  "4": "26aiv2200",
  "5": "vgu11he00",
  "6": "68guhhe00",
  "7": "v12488800",
  "8": "ehhehhe00",
  "9": "ehhf12c00",
  a: "00e1fhf00",
  b: "ggmphhu00",
  c: "00ehghe00",
  d: "11djhhf00",
  e: "00ehvge00",
  f: "698u88800",
  g: "00fhhhf1e",
  h: "ggmphhh00",
  i: "40c444e00",
  j: "2062222ic",
  k: "ggikoki00",
  l: "c44444e00",
  m: "00qllhh00",
  n: "00mphhh00",
  o: "00ehhhe00",
  p: "00uhhhugg",
  q: "00fhhhf11",
  r: "00mpggg00",
  s: "00fge1u00",
  t: "88u889600",
  u: "00hhhjd00",
  v: "00hhha400",
  w: "00hhlla00",
  x: "00ha4ah00",
  y: "00hhhhf1e",
  z: "00v248v00",
  ":": "004000400",
  ",": "000004480",
  ".": "000000400",
  "-": "0000e0000",
  "+": "0044v4400",
};
const glyphWidth = 5;
const glyphHeight = 9;

export class Canvas {
  /** [height, width, 3] */
  readonly pixels: Uint8Array;

  constructor(
    readonly width: number,
    readonly height: number,
    background: Colour,
  ) {
    this.pixels = new Uint8Array(width * height * 3);
    this.fill(0, 0, width, height, background);
  }

  /** Points outside the canvas are ignored. */
  set(x: number, y: number, [red, green, blue]: Colour): void {
    if (x < 0 || y < 0 || x >= this.width || y >= this.height) return;
    const at = (y * this.width + x) * 3;
    this.pixels[at] = red;
    this.pixels[at + 1] = green;
    this.pixels[at + 2] = blue;
  }

  fill(x: number, y: number, width: number, height: number, colour: Colour): void {
    for (let row = y; row < y + height; row++) for (let column = x; column < x + width; column++) this.set(column, row, colour);
  }

  /** Copies pixels, [height, width, 3], to a place. */
  copy(x: number, y: number, width: number, height: number, pixels: Uint8Array): void {
    for (let row = 0; row < height; row++)
      this.pixels.set(pixels.subarray(row * width * 3, (row + 1) * width * 3), ((y + row) * this.width + x) * 3);
  }

  /** Writes lower-case text with its top left corner at (x, y). Characters without a glyph are left blank. */
  text(x: number, y: number, text: string, scale: number, colour: Colour): void {
    [...text].forEach((character, i) => {
      const rows = glyphs[character];
      if (rows === undefined) return;
      for (let row = 0; row < glyphHeight; row++) {
        const bits = parseInt(rows[row]!, 32);
        for (let column = 0; column < glyphWidth; column++) {
          if (bits & (16 >> column))
            this.fill(x + (i * (glyphWidth + 1) + column) * scale, y + row * scale, scale, scale, colour);
        }
      }
    });
  }
}

/** Width and height of a line of text, in pixels. */
export function textSize(text: string, scale: number): [width: number, height: number] {
  return [(text.length * (glyphWidth + 1) - 1) * scale, glyphHeight * scale];
}

/** Between two colours: 0 is the first, 1 the second. */
export function mix(from: Colour, to: Colour, share: number): Colour {
  return [from[0] + (to[0] - from[0]) * share, from[1] + (to[1] - from[1]) * share, from[2] + (to[2] - from[2]) * share];
}

/** Stops of a scale from dark violet to pale yellow whose lightness rises evenly, so that more always looks like more. */
const heatStops: readonly Colour[] = [
  [0, 0, 4],
  [31, 12, 72],
  [85, 15, 109],
  [136, 34, 106],
  [186, 54, 85],
  [227, 89, 51],
  [249, 140, 10],
  [249, 201, 50],
  [252, 255, 164],
];

/** The colour of a value between 0 and 1; what is no number counts as 0. */
export function heat(value: number): Colour {
  const at = (Math.min(Math.max(value, 0), 1) || 0) * (heatStops.length - 1);
  const stop = Math.min(Math.floor(at), heatStops.length - 2);
  return mix(heatStops[stop]!, heatStops[stop + 1]!, at - stop);
}
