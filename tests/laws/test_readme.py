"""README.zh-CN.md says what README.md says: the same sections, code, tables, links and numbers, in Chinese."""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = "README.md", "README.zh-CN.md"
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) .+$", re.MULTILINE)
COMMENT = re.compile(r"^#.*$|  +#.*$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(text: str) -> str:
    """The page without its code blocks, in which a # is a comment and a | is a pipe."""
    return FENCED.sub("", text)


def headings(text: str) -> list[str]:
    """The levels in order: #, ##, ##, ###."""
    return HEADING.findall(prose(text))


def code(text: str) -> list[str]:
    """The code blocks without their comments, which each page writes in its own language."""
    return [COMMENT.sub("", block) for block in FENCED.findall(text)]


def tables(text: str) -> list[list[str]]:
    """Of each table its rows' first cells, those that are words left empty."""
    found = re.findall(r"(?:^\|.*\|\n)+", prose(text), re.MULTILINE)
    firsts = [[row.split("|")[1].strip() for row in table.splitlines()] for table in found]
    return [[cell if "`" in cell else "" for cell in table] for table in firsts]


def numbers(text: str) -> list[Counter[str]]:
    """The numbers of each section in any order, those of its heading, tables, code and comments with them."""
    counted = [Counter[str]()]
    fenced = False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        if not fenced and HEADING.match(line):
            counted.append(Counter())
        counted[-1].update(NUMBER.findall(line))
    return counted


def test_the_pages_name_each_other_first_and_have_the_same_links() -> None:
    english, chinese = (LINK.findall(prose(page(name))) for name in (ENGLISH, CHINESE))
    assert (english[0], chinese[0]) == (CHINESE, ENGLISH)
    assert english[1:] == chinese[1:] != []


def test_the_pages_have_the_same_sections() -> None:
    assert headings(page(ENGLISH)) == headings(page(CHINESE)) != []


def test_the_pages_have_the_same_code_but_for_comments() -> None:
    assert code(page(ENGLISH)) == code(page(CHINESE)) != []


def test_the_pages_have_the_same_tables() -> None:
    english, chinese = tables(page(ENGLISH)), tables(page(CHINESE))
    assert [len(table) for table in english] == [len(table) for table in chinese]
    assert english == chinese != []


def test_the_pages_have_the_same_numbers_in_each_section() -> None:
    english, chinese = numbers(page(ENGLISH)), numbers(page(CHINESE))
    names = [heading[0] for heading in re.finditer(HEADING, prose(page(ENGLISH)))]
    differing = {
        name: {"only in English": ours - theirs, "only in Chinese": theirs - ours}
        for name, ours, theirs in zip(["", *names], english, chinese, strict=True)
        if ours != theirs
    }
    assert differing == {}
    assert sum(one.total() for one in english) > 300
