"""How each kind of product is painted: within half a unit around (0, 0), standing on y = 0.5 or hanging."""

import numpy as np

from tools.sample_pictures.canvas import (
    Canvas,
    Colour,
    Field,
    Paint,
    Points,
    ball_light,
    block,
    flat,
    oval,
    round_light,
    soft_light,
    turned,
)

BRASS: Colour = (196, 158, 84)
INK: Colour = (46, 44, 48)
OAK: Colour = (188, 142, 92)


def darker(colour: Colour, share: float = 0.7) -> Colour:
    red, green, blue = colour
    return round(red * share), round(green * share), round(blue * share)


def table_lamp(canvas: Canvas, shade: Colour, base: Colour, foot: Points, top: float, rim: float) -> None:
    """Foot: half widths and heights of its profile; top and rim: half widths of the shade."""
    canvas.shadow(0.05, 0.49, 0.8, 0.12)
    canvas.fill(turned(foot), Paint(base, round_light))
    canvas.fill(block(-0.015, -0.12, 0.015, foot[0][1] + 0.02), Paint(BRASS, round_light))
    canvas.fill([(-top, -0.48), (top, -0.48), (rim, -0.06), (-rim, -0.06)], Paint(shade, round_light))
    canvas.fill(oval(0, -0.06, 2 * rim, 0.05), Paint(darker(shade, 0.85), soft_light))
    canvas.fill(oval(0, -0.48, 2 * top, 0.03), Paint(darker(shade, 0.75)))


def pendant(canvas: Canvas, shade: Colour, profile: Points, band: Colour) -> None:
    canvas.fill(block(-0.006, -0.6, 0.006, profile[0][1]), Paint(INK))
    canvas.fill(turned(profile), Paint(shade, round_light))
    half, bottom = profile[-1]
    canvas.fill(oval(0, bottom, 2 * half, 0.09), Paint(darker(shade, 0.55), soft_light))
    canvas.fill(oval(0, bottom + 0.005, half, 0.045), Paint((255, 240, 200)))
    canvas.fill(block(-0.05, profile[0][1] - 0.05, 0.05, profile[0][1] + 0.02), Paint(band, round_light))


def rug(canvas: Canvas, wool: Colour, accent: Colour, pattern: Field, spread: float, fringed: bool) -> None:
    """Seen from above, slightly in perspective; spread is the half width of its far edge."""
    canvas.shadow(0, 0.03, 1.2, 0.85, 0.2)
    near, far, top, bottom = 0.49, spread, -0.3, 0.34
    if fringed:
        for step in np.linspace(-1, 1, 41):
            for half, start, end in ((far, top, top - 0.035), (near, bottom, bottom + 0.045)):
                x = float(step) * half * 0.985
                canvas.fill(block(x - 0.005, min(start, end), x + 0.005, max(start, end)), Paint((232, 222, 204)))
    outline = [(-far, top), (far, top), (near, bottom), (-near, bottom)]
    canvas.fill(outline, Paint(wool, soft_light, accent, pattern))


def round_rug(canvas: Canvas, wool: Colour, accent: Colour, rings: int) -> None:
    canvas.shadow(0, 0.03, 1.2, 0.8, 0.2)
    for ring in range(rings, 0, -1):
        colour = wool if ring % 2 == 0 else accent
        share = ring / rings
        canvas.fill(oval(0, 0, 0.98 * share, 0.62 * share), Paint(colour, soft_light))


def cushion(
    canvas: Canvas, cloth: Colour, accent: Colour, pattern: Field, width: float, height: float, tassels: bool
) -> None:
    canvas.shadow(0.02, height / 2 - 0.02, width * 1.15, 0.16)
    corners = [(x, y) for x in (-width / 2, width / 2) for y in (-height / 2, height / 2)]
    if tassels:
        for x, y in corners:
            canvas.fill(oval(x, y, 0.1, 0.1), Paint(darker(accent, 0.9), ball_light))
    angles = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    # A superellipse whose sides sink in between the corners, as those of a stuffed cover do.
    reach = (np.abs(np.cos(angles)) ** 7 + np.abs(np.sin(angles)) ** 7) ** (-1 / 7)
    reach *= 0.91 + 0.07 * np.abs(np.sin(2 * angles)) ** 3
    xs, ys = reach * np.cos(angles) * width / 2, reach * np.sin(angles) * height / 2
    outline = list(zip(xs.tolist(), ys.tolist(), strict=True))
    canvas.fill(outline, Paint(cloth, ball_light, accent, pattern))


def vase(canvas: Canvas, glaze: Colour, accent: Colour, profile: Points, pattern: Field | None, stems: int) -> None:
    canvas.shadow(0.06, 0.48, 0.75, 0.13)
    mouth_half, mouth = profile[0]
    for step in np.linspace(-1, 1, stems) if stems else ():
        lean, tip = float(step) * 0.26, -0.46 + 0.1 * abs(float(step))
        stem = [(-0.006, mouth), (lean - 0.005, tip), (lean + 0.005, tip), (0.006, mouth)]
        canvas.fill(stem, Paint((112, 118, 70)))
        for share in (0.55, 0.75, 0.95):
            x, y = lean * share, mouth + (tip - mouth) * share
            canvas.fill(oval(x, y, 0.085, 0.085), Paint((226, 178, 160), ball_light))
    canvas.fill(turned(profile), Paint(glaze, round_light, accent, pattern))
    canvas.fill(oval(0, mouth, 2 * mouth_half, 0.035), Paint(darker(glaze, 0.5), soft_light))


def armchair(canvas: Canvas, cloth: Colour, wood: Colour) -> None:
    canvas.shadow(0.03, 0.48, 1.05, 0.15)
    for x, slant in ((-0.32, -0.04), (0.32, 0.04)):
        leg = [(x - 0.03, 0.3), (x + 0.03, 0.3), (x + slant + 0.012, 0.5), (x + slant - 0.012, 0.5)]
        canvas.fill(leg, Paint(wood, round_light))
    canvas.fill(oval(0, -0.13, 0.74, 0.7, 4), Paint(darker(cloth, 0.88), soft_light))
    canvas.fill(oval(0, 0.15, 0.62, 0.2, 4), Paint(cloth, soft_light))
    canvas.fill(oval(0, 0.27, 0.7, 0.16, 6), Paint(darker(cloth, 0.8), soft_light))
    for x in (-0.37, 0.37):
        canvas.fill(oval(x, 0.13, 0.17, 0.45, 4), Paint(cloth, round_light))


def side_chair(canvas: Canvas, seat: Colour, wood: Colour) -> None:
    canvas.shadow(0.03, 0.48, 0.75, 0.12)
    for x, slant in ((-0.2, -0.06), (0.2, 0.06), (-0.15, -0.01), (0.15, 0.01)):
        leg = [(x - 0.02, 0.1), (x + 0.02, 0.1), (x + slant + 0.013, 0.5), (x + slant - 0.013, 0.5)]
        canvas.fill(leg, Paint(wood, round_light))
    for x in (-0.2, 0.2):
        canvas.fill(block(x - 0.018, -0.45, x + 0.018, 0.1), Paint(wood, round_light))
    for y in (-0.44, -0.3, -0.16):
        canvas.fill(oval(0, y, 0.43, 0.085, 5), Paint(wood, soft_light))
    canvas.fill(oval(0, 0.09, 0.52, 0.13, 4), Paint(seat, soft_light))


def landscape_print(canvas: Canvas, frame: Colour) -> None:
    framed(canvas, frame, 0.96, 0.7)
    canvas.fill(block(-0.38, -0.25, 0.38, 0.25), Paint((238, 196, 160), lambda across, down: 0.85 + 0.2 * down))
    canvas.fill(oval(0.17, -0.09, 0.16, 0.16), Paint((222, 92, 62)))
    hills = (
        ((92, 128, 148), -0.02, 5.0, 0.4),
        ((58, 92, 112), 0.08, 7.0, 2.0),
        ((32, 56, 72), 0.16, 4.0, 3.4),
    )
    for colour, height, bends, phase in hills:
        xs = np.linspace(-0.38, 0.38, 40)
        ridge = list(zip(xs.tolist(), (height + 0.05 * np.sin(xs * bends * 2 + phase)).tolist(), strict=True))
        canvas.fill([*ridge, (0.38, 0.25), (-0.38, 0.25)], Paint(colour, soft_light))


def abstract_print(canvas: Canvas, frame: Colour) -> None:
    framed(canvas, frame, 0.68, 0.96)
    canvas.fill(oval(-0.03, -0.13, 0.34, 0.34), Paint((204, 90, 60)))
    canvas.fill(oval(0.09, 0.1, 0.26, 0.26), Paint((232, 176, 74)))
    canvas.fill([(-0.22, 0.34), (-0.2, 0.02), (0.04, 0.34)], Paint((40, 70, 92)))


def framed(canvas: Canvas, frame: Colour, width: float, height: float) -> None:
    canvas.shadow(0.02, 0.05, width * 1.3, height * 1.3, 0.25)
    x, y = width / 2, height / 2
    canvas.fill(block(-x, -y, x, y), Paint(frame, soft_light))
    canvas.fill(block(-x + 0.03, -y + 0.03, x - 0.03, y - 0.03), Paint((244, 240, 230)))


def mug(canvas: Canvas, glaze: Colour, accent: Colour, pattern: Field, half: float, top: float) -> None:
    canvas.shadow(0.05, 0.37, 1.0, 0.16)
    middle, reach = (top + 0.36) / 2, (0.36 - top) / 3.2
    bow = [(float(np.cos(angle)), float(np.sin(angle))) for angle in np.linspace(-np.pi / 2, np.pi / 2, 40)]
    outer = [(half - 0.03 + 0.22 * x, middle + reach * y) for x, y in bow]
    inner = [(half - 0.03 + 0.15 * x, middle + (reach - 0.07) * y) for x, y in bow]
    canvas.fill([*outer, *reversed(inner)], Paint(darker(glaze, 0.86), ball_light))
    body = [(half, top), (half, 0.2), (half * 0.86, 0.37), (half * 0.7, 0.38)]
    canvas.fill(turned(body), Paint(glaze, round_light, accent, pattern))
    canvas.fill(oval(0, top, 2 * half, 0.11), Paint(darker(glaze, 0.92), soft_light))
    canvas.fill(oval(0, top + 0.01, 2 * half - 0.05, 0.08), Paint((70, 44, 30), soft_light))


def leafy_plant(canvas: Canvas, leaf: Colour, pot: Colour) -> None:
    canvas.shadow(0.04, 0.48, 0.7, 0.12)
    for number, angle in enumerate(np.linspace(-1.25, 1.25, 9)[[0, 8, 1, 7, 2, 6, 3, 5, 4]]):
        colour = darker(leaf, 0.72 + 0.04 * number)
        canvas.fill(leaf_outline(float(angle), 0.62 - 0.12 * abs(float(angle))), Paint(colour, ball_light))
    canvas.fill([(-0.19, 0.14), (0.19, 0.14), (0.14, 0.5), (-0.14, 0.5)], Paint(pot, round_light))
    canvas.fill(block(-0.205, 0.11, 0.205, 0.18), Paint(pot, round_light))


def leaf_outline(angle: float, length: float) -> Points:
    """A pointed leaf from (0, 0.14), leaning by the angle (radians from upright) and drooping as it leans."""
    along = np.linspace(0, 1, 24)
    there_and_back = np.concatenate([along, along[::-1]])
    side = 0.07 * np.sin(np.pi * there_and_back**0.8) * np.repeat([1, -1], len(along))
    xs = np.sin(angle) * length * there_and_back + np.cos(angle) * side
    ys = 0.14 - np.cos(angle) * length * there_and_back + np.sin(angle) * side
    ys += 0.16 * abs(angle) * there_and_back**2
    return list(zip(xs.tolist(), ys.tolist(), strict=True))


def cactus(canvas: Canvas, flesh: Colour, pot: Colour, ribs: Field) -> None:
    canvas.shadow(0.04, 0.48, 0.7, 0.12)
    skin = Paint(flesh, round_light, darker(flesh, 0.78), ribs)
    canvas.fill(oval(-0.21, 0.0, 0.12, 0.3, 3), skin)
    canvas.fill(oval(-0.14, 0.1, 0.22, 0.1, 3), Paint(flesh, soft_light))
    canvas.fill(oval(0.2, -0.1, 0.12, 0.28, 3), skin)
    canvas.fill(oval(0.13, 0.0, 0.22, 0.1, 3), Paint(flesh, soft_light))
    canvas.fill(oval(0, -0.1, 0.24, 0.76, 3), skin)
    canvas.fill([(-0.19, 0.2), (0.19, 0.2), (0.14, 0.5), (-0.14, 0.5)], Paint(pot, round_light))


def wall_clock(canvas: Canvas, rim: Colour, face: Colour) -> None:
    canvas.shadow(0.03, 0.06, 1.15, 1.15, 0.25)
    canvas.fill(oval(0, 0, 0.94, 0.94), Paint(rim, ball_light))
    canvas.fill(oval(0, 0, 0.8, 0.8), Paint(face, soft_light))
    for hour in range(12):
        x, y = float(np.sin(hour * np.pi / 6)), float(np.cos(hour * np.pi / 6))
        across = (y * 0.013, -x * 0.013)
        inner, outer = (x * 0.3, y * 0.3), (x * 0.36, y * 0.36)
        canvas.fill(bar(inner, outer, across), Paint(INK))
    for angle, length, half in ((-0.95, 0.2, 0.02), (0.95, 0.3, 0.013)):
        x, y = float(np.sin(angle)), -float(np.cos(angle))
        canvas.fill(bar((0, 0), (x * length, y * length), (y * half, -x * half)), Paint(INK))
    canvas.fill(oval(0, 0, 0.06, 0.06), Paint(rim, ball_light))


def bar(start: tuple[float, float], end: tuple[float, float], across: tuple[float, float]) -> Points:
    """A straight stroke; across is half its width, as a vector."""
    (x0, y0), (x1, y1), (dx, dy) = start, end, across
    return [(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)]


def sun_mirror(canvas: Canvas, rim: Colour, rays: int) -> None:
    for ray in range(rays):
        angle = 2 * np.pi * ray / rays
        x, y = float(np.sin(angle)), float(np.cos(angle))
        reach = 0.5 if ray % 2 == 0 else 0.4
        canvas.fill(bar((x * 0.2, y * 0.2), (x * reach, y * reach), (y * 0.022, -x * 0.022)), Paint(rim, soft_light))
    canvas.fill(oval(0, 0, 0.52, 0.52), Paint(rim, ball_light))
    canvas.fill(oval(0, 0, 0.42, 0.42), Paint((198, 214, 220), lambda across, down: 0.9 + 0.16 * (across - down)))


def stool(canvas: Canvas, seat: Colour, wood: Colour) -> None:
    canvas.shadow(0.03, 0.48, 0.85, 0.13)
    for x, slant in ((-0.2, -0.14), (0.2, 0.14), (0.0, 0.0)):
        leg = [(x - 0.028, -0.2), (x + 0.028, -0.2), (x + slant + 0.018, 0.5), (x + slant - 0.018, 0.5)]
        canvas.fill(leg, Paint(wood, round_light))
    canvas.fill(block(-0.25, 0.2, 0.25, 0.235), Paint(darker(wood, 0.85), soft_light))
    canvas.fill(oval(0, -0.2, 0.66, 0.16, 2.6), Paint(darker(seat, 0.8), soft_light))
    canvas.fill(oval(0, -0.25, 0.66, 0.14, 2.2), Paint(seat, round_light))


def sideboard(canvas: Canvas, wood: Colour, door: Colour, doors: int, height: float) -> None:
    canvas.shadow(0.02, 0.48, 1.15, 0.13)
    top = 0.38 - height
    for x in (-0.4, 0.4):
        canvas.fill(block(x - 0.02, 0.36, x + 0.02, 0.5), Paint(darker(wood, 0.6), round_light))
    canvas.fill(block(-0.48, top, 0.48, 0.4), Paint(wood, soft_light))
    width = 0.9 / doors
    for number in range(doors):
        left = -0.45 + number * width
        canvas.fill(block(left + 0.01, top + 0.05, left + width - 0.01, 0.37), Paint(door, soft_light))
        canvas.fill(oval(left + width / 2, top + 0.11, 0.035, 0.035), Paint(BRASS, ball_light))


def bookshelf(canvas: Canvas, wood: Colour, shelves: int) -> None:
    canvas.shadow(0.02, 0.48, 0.8, 0.12)
    canvas.fill(block(-0.29, -0.5, 0.29, 0.5), Paint(wood, soft_light))
    pitch = 0.96 / shelves
    spines: list[Colour] = [(176, 74, 60), (52, 84, 110), (222, 186, 110), (92, 120, 92), (228, 222, 208)]
    for shelf in range(shelves):
        top = -0.48 + shelf * pitch
        canvas.fill(block(-0.26, top + 0.01, 0.26, top + pitch - 0.015), Paint(darker(wood, 0.5), flat))
        for book in range(9 - 2 * (shelf % 2)):
            left, rise = -0.24 + book * 0.048, pitch * (0.62 + 0.07 * ((book * 3 + shelf) % 4))
            spine = block(left, top + pitch - 0.015 - rise, left + 0.043, top + pitch - 0.015)
            canvas.fill(spine, Paint(spines[(book * 2 + shelf) % 5], round_light))
