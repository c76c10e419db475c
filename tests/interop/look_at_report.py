"""Opens pages of vqtok in a headless Chromium, as whoever was sent one does.

look_at_report.py PAGE.html ... [--pictures FOLDER]

Each page is opened on a desk, on a phone 390 px wide, in the dark and on paper. Nothing may be logged as an
error, nothing fetched; charts have a size, links a target, pictures pixels and a text; nothing is wider than the
phone, no text too small to be read there, none too faint. The browser is the first of chromium,
chromium-headless-shell and google-chrome on the PATH, or what CHROMIUM names.
"""

import argparse
import os
import pathlib
import shutil
import sys
import time

from playwright.sync_api import sync_playwright

BROWSERS = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"]
SETTINGS = {
    "desk": {"viewport": {"width": 1200, "height": 900}},
    "dark": {"viewport": {"width": 1200, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
}
# What a page says of itself: everything that must hold in every setting.
FACTS = """() => {
  const all = (what, inside = document) => [...inside.querySelectorAll(what)];
  const seen = (e) => e.getClientRects().length > 0;
  const box = (e) => e.getBoundingClientRect();
  const links = all('a[href]').map((a) => a.getAttribute('href'));
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => numbers(colour).slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      const alpha = numbers(colour)[3];
      if (alpha === undefined || alpha > 0.5) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const texts = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent.trim(), e = walk.currentNode.parentElement;
    if (!text || !seen(e) || e.closest('svg, style, title')) continue;
    const style = getComputedStyle(e);
    const [a, b] = [light(style.color), light(ground(e))].sort((x, y) => y - x);
    texts.push({ text: text.slice(0, 40), size: parseFloat(style.fontSize), contrast: (a + 0.05) / (b + 0.05) });
  }
  const svgs = all('svg').filter(seen);
  return {
    width: document.documentElement.scrollWidth,
    dead: links.filter((link) => !link.startsWith('#') || !document.getElementById(link.slice(1))),
    ids: all('[id]').map((e) => e.id).filter((id, at, ids) => ids.indexOf(id) !== at),
    links: links.length,
    svgs: svgs.length,
    flat: svgs.filter((e) => box(e).width < 100 || box(e).height < 50).length,
    unnamed: svgs.filter((e) => !e.getAttribute('aria-label')).length,
    tiny: svgs.flatMap((e) => all('text', e).map((t) => parseFloat(getComputedStyle(t).fontSize)
      * box(e).width / e.viewBox.baseVal.width)).filter((size) => size < 9).length,
    pictures: all('img').length,
    broken: all('img').filter((e) => !(e.complete && e.naturalWidth > 0)).length,
    nameless: all('img').filter((e) => !e.alt).length,
    squeezed: all('img').filter((e) => seen(e) && (box(e).width < 40 || box(e).height < 40)).length,
    headings: all('h1, h2, h3').map((e) => Number(e.tagName[1])),
    scripts: all('script').length,
    small: texts.filter((t) => t.size < 12),
    faint: texts.filter((t) => t.contrast < 4.5),
    paper: ground(document.body),
    language: document.documentElement.lang,
  };
}"""


def browser_path():
    """The browser, or None."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


def hold(page, setting, room, found):
    """Everything that must hold of what the page says of itself."""
    problems = []

    def need(holds, what):
        if not holds:
            problems.append(f"{page.name}, {setting}: {what}")

    # A phone's own idea of its width grows with the page.
    need(found["width"] <= room, f"it is {found['width']} px wide where there are {room}")
    need(not found["dead"], f"links without a target: {found['dead'][:5]}")
    need(not found["ids"], f"ids that stand twice: {found['ids'][:5]}")
    need(found["svgs"] > 0, "it has no chart")
    need(not found["flat"], f"{found['flat']} charts without a size")
    need(not found["unnamed"], f"{found['unnamed']} charts without a name")
    need(not found["tiny"], f"{found['tiny']} words in charts under 9 px")
    need(not found["broken"], f"{found['broken']} pictures without pixels")
    need(not found["nameless"], f"{found['nameless']} pictures without a text")
    need(not found["squeezed"], f"{found['squeezed']} pictures under 40 px")
    need(not found["small"], f"text under 12 px: {found['small'][:3]}")
    need(not found["faint"], f"text of too little contrast: {found['faint'][:3]}")
    need(not found["scripts"], "it has scripts")
    need(found["language"] == "en", "it doesn't say its language")
    levels = found["headings"]
    need(levels[:1] == [1] and levels.count(1) == 1, f"headings begin with {levels[:3]}")
    need(all(b - a <= 1 for a, b in zip(levels, levels[1:])), "a heading's level is left out")
    red, green, blue = (int(v) for v in found["paper"].split("(")[1].rstrip(")").split(",")[:3])
    need((red + green + blue < 200) == (setting == "dark"), f"its ground is {found['paper']}")
    return problems


def look(browser, path, setting, options, pictures):
    """Opens a page in one setting; what is wrong with it, and a line about it."""
    context = browser.new_context(**options)
    page = context.new_page()
    said, fetched = [], []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))
    started = time.monotonic()
    page.goto(path.resolve().as_uri(), wait_until="load")
    opened = time.monotonic() - started
    page.evaluate("Promise.all([...document.images].map((image) => image.decode().catch(() => 0)))")
    found = page.evaluate(FACTS)
    room = options["viewport"]["width"]
    problems = hold(path, setting, room, found)
    if said:
        problems.append(f"{path.name}, {setting}: it says {said[:3]}")
    others = [url for url in fetched[1:] if not url.startswith("data:")]
    if others:
        problems.append(f"{path.name}, {setting}: it fetches {others[:3]}")
    if pictures:
        page.screenshot(path=pictures / f"{path.stem}-{setting}.png", full_page=True)
    # Everything that is folded away opens, and fits as well.
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    unfolded = hold(path, setting, room, page.evaluate(FACTS))
    problems += [f"{problem} (unfolded)" for problem in unfolded]
    for link in page.locator("a[href^='#']").all()[:20]:
        link.click()
        target = link.get_attribute("href")
        top = page.evaluate("(t) => document.querySelector(t)?.getBoundingClientRect().top ?? 0", target)
        end = page.evaluate("innerHeight + scrollY >= document.documentElement.scrollHeight - 2")
        if abs(top) > 40 and not end:
            problems.append(f"{path.name}, {setting}: {target} leads {top:.0f} px beside its target")
    context.close()
    line = f"{found['svgs']} charts, {found['pictures']} pictures, {found['links']} links, {opened:.2f} s"
    return problems, line


def on_paper(browser, path, pictures):
    """What is wrong with a page as it is printed, from a browser set to dark."""
    context = browser.new_context(viewport={"width": 780, "height": 1100}, color_scheme="dark")
    page = context.new_page()
    page.goto(path.resolve().as_uri(), wait_until="load")
    page.emulate_media(media="print", color_scheme="dark")
    found = page.evaluate(FACTS)
    problems = hold(path, "paper", 780, found)
    if pictures:
        page.pdf(path=pictures / f"{path.stem}.pdf", format="A4")
        page.screenshot(path=pictures / f"{path.stem}-paper.png", full_page=True)
    context.close()
    return problems


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("pages", nargs="+", type=pathlib.Path)
    parser.add_argument("--pictures", type=pathlib.Path)
    asked = parser.parse_args()
    path = browser_path()
    if path is None:
        sys.exit("no Chromium is on the PATH: install one, or name it by CHROMIUM")
    if asked.pictures:
        asked.pictures.mkdir(parents=True, exist_ok=True)
    problems = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for page in asked.pages:
            for setting, options in SETTINGS.items():
                wrong, line = look(browser, page, setting, options, asked.pictures)
                problems += wrong
                print(f"{page.name}, {setting}: {page.stat().st_size:,} bytes, {line}")
            problems += on_paper(browser, page, asked.pictures)
        print(f"looked at by Chromium {browser.version}")
        browser.close()
    print("\n".join(problems))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
