"""Opens pages in headless Chromium, points at them and reads what changes.

    python browser.py attention.html reconstruct.html atlas.html map.html

Written for Playwright 1.65 of Python and Chromium 148. CHROMIUM names the browser. Says on one line that it
skipped where either is absent.
"""

import base64, json, math, os, re, shutil, struct, sys
from contextlib import contextmanager
from pathlib import Path

BROWSERS = [os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"]
CHROMIUM = next((found for name in BROWSERS if name and (found := shutil.which(name))), None)
try:
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None


@contextmanager
def opened(browser, path, width=1100, dark=False, touch=False):
    """The page, of which nothing may complain, ask for another address, or be wider than the window."""
    scheme = "dark" if dark else "light"
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 800}, has_touch=touch)
    page, wrong = context.new_page(), []
    page.on("console", lambda line: wrong.append(f"console: {line.text}"))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    own = lambda url: url == path.as_uri() or url.startswith(("data:", "blob:"))
    page.on("request", lambda asked: None if own(asked.url) else wrong.append(f"asks for {asked.url}"))
    page.goto(path.as_uri())
    yield page
    broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
    assert page.evaluate(broken) == 0, f"{path.name}: a picture is broken"
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width, f"{path.name}: {wide} wide in a window of {width}"
    assert not wrong, f"{path.name}: {wrong}"
    context.close()


def about(page):
    return json.loads(page.locator("#about").text_content())


def raw(page, name):
    return base64.b64decode(page.locator(f"#{name}").text_content())


def expect(page, where, *wanted):
    page.wait_for_function(
        "([id, texts]) => texts.every(t => document.querySelector(id)?.textContent.includes(t))",
        arg=[where, list(wanted)], timeout=5000)


def said(about, data, block, map_, patch):
    """What the line under the image says of a map, from the numbers in the page."""
    (gh, gw), maps = about["grid"], about["heads"] + 1
    n = gh * gw
    row = (block * maps + map_) * n + patch
    values = data["values"][row * n:(row + 1) * n]
    scale, to_class = struct.unpack_from("<ff", data["scales"], 8 * row)
    bits = data["kept"][row * math.ceil(n / 8):(row + 1) * math.ceil(n / 8)]
    kept = [i for i in range(n) if bits[i >> 3] >> (i & 7) & 1]
    total = sum(values) * scale
    assert abs(total + to_class - 1) < 0.5 * n * scale + 1e-5, "a row of probabilities"
    mass = sum(values[i] for i in kept) / sum(values)
    assert 0.6 - 0.5 * n * scale <= mass < 0.6 + max(values) / sum(values), mass
    most = values.index(255)
    return f"most at row {most // gw}, column {most % gw};", f" {len(kept)} patches outlined."


def attention(browser, path):
    with opened(browser, path) as page:
        know = about(page)
        data = {name: raw(page, name) for name in ["values", "scales", "kept"]}
        (gh, gw), heads, last = know["grid"], know["heads"], len(know["layers"]) - 1
        box = page.locator("#big").bounding_box()
        point = lambda r, c: (box["x"] + (c + .5) * box["width"] / gw, box["y"] + (r + .5) * box["height"] / gh)
        for r, c in [(0, 0), (gh - 1, 1), (1, gw - 1)]:
            page.mouse.move(*point(r, c))
            expect(page, "#status", f"Patch: row {r}, column {c}.", *said(know, data, last, heads, r * gw + c))
        page.mouse.click(*point(2, 3))
        page.mouse.move(*point(0, 0))
        expect(page, "#status", "Held: row 2, column 3.")
        page.locator("#big").press("ArrowRight")
        expect(page, "#status", "Held: row 2, column 4.")
        page.locator("#map").select_option("0")
        expect(page, "#status", "head 0:", *said(know, data, last, 0, 2 * gw + 4))
        assert page.locator(".row button").count() == heads + 1
        page.locator("#layer").select_option("all")
        assert page.locator(".row button").count() == (heads + 1) * len(know["layers"])
        page.locator(".row button").first.click()
        expect(page, "#status", f"Block {know['layers'][0]}, head 0:", *said(know, data, 0, 0, 2 * gw + 4))
        picture = lambda: page.evaluate("document.getElementById('big').toDataURL()")
        for box_ in ["#outline", "#cover"]:
            before = picture()
            page.locator(box_).click()
            assert picture() != before, f"{box_} changes nothing"
    with opened(browser, path, 360, dark=True, touch=True) as page:
        box = page.locator("#big").bounding_box()
        page.touchscreen.tap(box["x"] + box["width"] * 1.5 / gw, box["y"] + box["height"] * .5 / gh)
        expect(page, "#status", "Held: row 0, column 1.")


def reconstruct(browser, path):
    for width, dark in [(1100, False), (360, True)]:
        with opened(browser, path, width, dark) as page:
            captions = page.locator("figcaption").all_text_contents()
            assert len(captions) == page.locator("figure img").count() > 0
            assert any(re.fullmatch(r"predicted, \d+ of \d+ right", c) for c in captions), captions


def atlas(browser, path):
    with opened(browser, path) as page:
        know = about(page)
        first, second = know["order"][:2]
        expect(page, "#facts", f"Code {first}", f"{know['counts'][first]} times", "place 1 of")
        page.locator("#used .tile").nth(1).click()
        expect(page, "#facts", f"Code {second}", f"{know['counts'][second]} times", "place 2 of")
        assert page.locator(".example").count() == know["examples"].count(second)
        page.locator("#near button").first.click()
        expect(page, "#facts", f"Code {know['neighbours'][second][0][0]}")
        unused = [code for code, n in enumerate(know["counts"]) if not n]
        if unused:
            expect(page, "#rest summary", f"{len(unused)} codes that never occur")
            page.locator("#number").fill(str(unused[0]))
            page.locator("#number").press("Enter")
            expect(page, "#facts", f"Code {unused[0]}", "never used")
            expect(page, "#examples", "No patch of the data has it.")
    with opened(browser, path, 360, dark=True) as page:
        page.locator("#used .tile").nth(1).click()
        expect(page, "#facts", f"Code {second}")


def map_(browser, path):
    with opened(browser, path) as page:
        know = about(page)
        points = know["points"]
        # Marks as the script places them: one scale, the middle in the middle.
        box = page.evaluate("(p => [p.getBoundingClientRect().x + p.clientLeft, p.getBoundingClientRect().y + "
                            "p.clientTop, p.clientWidth, p.clientHeight])(document.getElementById('plot'))")
        ends = [(min(p[i] for p in points), max(p[i] for p in points)) for i in (0, 1)]
        scale = min((box[2 + i] - 28) / ((b - a) or 1) for i, (a, b) in enumerate(ends))
        left = min(range(len(points)), key=lambda i: points[i][0])
        x, y = ((p - (a + b) / 2) * scale for p, (a, b) in zip(points[left], ends))
        page.mouse.move(box[0] + box[2] / 2 + x, box[1] + box[3] / 2 - y)
        expect(page, "#text", know["names"][left])
        assert page.locator("#picture").evaluate("p => getComputedStyle(p).backgroundImage").startswith('url("blob:')
        page.locator("#plot").press("ArrowRight")
        second = sorted(range(len(points)), key=lambda i: (points[i][0], i))[1]
        expect(page, "#text", know["names"][second])
        if page.locator("#legend button").count():
            page.locator("#legend button").first.click()
            page.wait_for_selector("#legend button[aria-pressed=true]")
            assert page.locator("#tip").is_hidden()
    with opened(browser, path, 360, dark=True) as page:
        page.locator("#plot").press("ArrowRight")
        expect(page, "#text", know["names"][left])


def main(paths):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for look, path in zip([attention, reconstruct, atlas, map_], paths, strict=True):
            look(browser, Path(path).resolve())
        browser.close()
    print(f"{len(paths)} pages opened")


if sync_playwright is None or CHROMIUM is None:
    print("skipped: no " + ("playwright for this Python (PYTHON names another)" if CHROMIUM else "Chromium"))
else:
    main(sys.argv[1:])
