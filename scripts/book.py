#!/usr/bin/env python3
"""A preprocessor of mdBook: pages from outside of docs, and links that lead to pages of the book.

A page of docs/book, like docs/introduction.md, consists of one include of a file elsewhere in the repository. Its links are relative to that file, so it is
included here, where that is known, and not by mdBook. A link to a file that is a page of the book leads to this page. A link to
another file of docs stays. Of any other relative link, such as one to source code or to rustdoc, the text stays.
"""
import json
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
INCLUDE = re.compile(r"\{\{#include ([^}]+)\}\}\s*")
LINK = re.compile(r"(!?)\[([^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*)\]\(([^()\s]+)\)")


def chapters(items):
    for item in items:
        if isinstance(item, dict) and "Chapter" in item:
            yield item["Chapter"]
            yield from chapters(item["Chapter"]["sub_items"])


def origin(chapter):
    """The file of the repository that a chapter shows."""
    path = os.path.join("docs", chapter["path"])
    include = INCLUDE.fullmatch(chapter["content"])
    return os.path.normpath(os.path.join(os.path.dirname(path), include[1])) if include else path


def linked(text, source, page, pages):
    """A page with its links changed; code is left as it is."""

    def link(found):
        image, words, target = found.groups()
        if re.match(r"[a-z]+:(?!:)|#", target):
            return found[0]
        target, _, part = target.partition("#")
        file = os.path.normpath(os.path.join(os.path.dirname(source), target))
        if file in pages:
            # mdBook calls a page README.md index.md.
            file = re.sub(r"README\.md$", "index.md", os.path.join("docs", pages[file]))
        elif not (file.startswith("docs/") and os.path.isfile(os.path.join(ROOT, file))):
            return words
        place = os.path.relpath(file, os.path.dirname(os.path.join("docs", page)))
        return f"{image}[{words}]({place}{'#' + part if part else ''})"

    return outside_code(text, lambda line: LINK.sub(link, line))


def titled(name, text):
    """A page of rustdoc with a title: such pages begin with their subject, and their headings are of the first level."""
    return f"# {name}\n\n" + outside_code(text, lambda line: "#" + line if line.startswith("# ") else line)


def outside_code(text, change):
    code = False
    lines = []
    for line in text.split("\n"):
        code ^= line.startswith("```")
        lines.append(line if code or line.startswith("    ") else change(line))
    return "\n".join(lines)


def main():
    if sys.argv[1:2] == ["supports"]:
        return
    _, book = json.load(sys.stdin)
    items = book.get("items", book.get("sections"))
    all_chapters = [chapter for chapter in chapters(items) if chapter["path"]]
    sources = {chapter["path"]: origin(chapter) for chapter in all_chapters}
    pages = {source: path for path, source in sources.items()}
    for chapter in all_chapters:
        source = sources[chapter["path"]]
        if source != os.path.join("docs", chapter["path"]):
            with open(os.path.join(ROOT, source), encoding="utf-8") as file:
                chapter["content"] = file.read()
            if "/src/guide/" in source:
                chapter["content"] = titled(chapter["name"], chapter["content"])
        chapter["content"] = linked(chapter["content"], source, chapter["path"], pages)
    json.dump(book, sys.stdout)


main()
