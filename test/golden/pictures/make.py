"""Makes this folder's pictures and expected.json with Pillow 13: what `Image.open(...).convert("RGB")` gives for each.

Run in this folder: python make.py (needs Pillow and numpy). One line is not Pillow's: it clips 16-bit grey at 255, which
turns nearly every such picture white; ours takes the upper 8 bits.
"""
import hashlib, json, pathlib, struct, zlib
import numpy as np
from PIL import Image

W, H = 31, 23
here = pathlib.Path(__file__).parent
y, x = np.mgrid[0:H, 0:W]
rgb = np.stack([(7 * x + 3 * y) % 256, 128 + 100 * np.sin(x / 9 + y / 5), (5 * y + x * y // 4) % 256], -1).astype(np.uint8)
alpha = (x * 8 % 256).astype(np.uint8)
wide = np.random.default_rng(7).integers(0, 65536, (H, W, 4))
picture = Image.fromarray(rgb)
photo = picture.resize((2 * W, 2 * H), Image.BICUBIC)
rgba = Image.fromarray(np.dstack([rgb, alpha]))
expected = {}


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(name, depth, kind, rows, extra=b""):
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", W, H, depth, kind, 0, 0, 0))
    (here / name).write_bytes(b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def packed(values, bits):
    for row in values:
        text = "".join(format(int(v), f"0{bits}b") for v in row)
        yield int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")


picture.save(here / "rgb.png")
rgba.save(here / "rgba.png")
picture.convert("L").save(here / "grey.png")
Image.merge("LA", [picture.convert("L"), Image.fromarray(alpha)]).save(here / "grey-alpha.png")
picture.quantize(37).save(here / "palette.png")
picture.quantize(11).save(here / "palette-4-bit.png", bits=4)
picture.quantize(37).save(here / "palette-alpha.png", transparency=bytes(range(37)))
picture.convert("1").save(here / "one-bit.png")
png("grey-2-bit.png", 2, 0, packed((x + y) % 4, 2))
png("grey-4-bit.png", 4, 0, packed((x * y) % 16, 4))
png("grey-16-bit.png", 16, 0, [row.astype(">u2").tobytes() for row in wide[:, :, 0]])
png("rgb-16-bit.png", 16, 2, [row.astype(">u2").tobytes() for row in wide[:, :, :3]])
png("rgba-16-bit.png", 16, 6, [row.astype(">u2").tobytes() for row in wide])
png("gamma.png", 8, 2, [row.tobytes() for row in rgb], chunk(b"gAMA", struct.pack(">I", 100000)))
png("transparent-colour.png", 8, 2, [row.tobytes() for row in rgb], chunk(b"tRNS", struct.pack(">HHH", *map(int, rgb[0, 0]))))
photo.save(here / "baseline.jpg", quality=90)
photo.save(here / "progressive.jpg", quality=80, progressive=True)
photo.save(here / "no-subsampling.jpg", quality=95, subsampling=0)
photo.convert("L").save(here / "grey.jpg", quality=85)
Image.fromarray(np.dstack([np.array(photo), np.array(photo.convert("L")) // 2]), "CMYK").save(here / "cmyk.jpg", quality=95)
turned = Image.Exif()
turned[0x0112] = 6
photo.save(here / "oriented.jpg", quality=90, exif=turned)
picture.save(here / "lossless.webp", lossless=True)
photo.save(here / "lossy.webp", quality=80)
rgba.save(here / "alpha.webp", lossless=True, exact=True)
picture.save(here / "animated.webp", save_all=True, append_images=[picture.rotate(180)], lossless=True, duration=50)

for file in sorted(here.iterdir()):
    if file.suffix not in (".png", ".jpg", ".webp"):
        continue
    image = Image.open(file).convert("RGB")
    if file.name == "grey-16-bit.png":
        image = Image.fromarray((wide[:, :, 0] >> 8).astype(np.uint8)).convert("RGB")
    expected[file.name] = {"width": image.width, "height": image.height, "sha256": hashlib.sha256(image.tobytes()).hexdigest()}
(here / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")
