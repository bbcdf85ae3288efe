"""Where a program can be changed by one sign, bound, index or default, found in its syntax tree.

A change replaces only the characters of one operator, number or name, so that lines and layout stay as they are. Left
out is what no test is to notice: annotations, decorators, the words of errors and of printed lines, asserts, layout of
written JSON, ``strict`` of zip (a guard against our own mistakes), and numbers that stand for "nearly nothing"; and
what every test notices, since the program cannot go on: operators that join paths or mappings, classes of isinstance.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
COMPARISONS |= {"is": "is not", "is not": "is", "in": "not in", "not in": "in"}
ARITHMETIC = {"+": "-", "-": "+", "*": "/", "/": "*", "//": "%", "%": "//", "**": "*", "&": "|", "|": "&"}
NAMES = {"min": "max", "argmin": "argmax", "minimum": "maximum", "floor": "ceil", "any": "all"}
NAMES |= {other: name for name, other in NAMES.items()}
# One regular expression for every operator between two operands; the longest spelling first.
OPERATOR = re.compile(r"is\s+not\b|not\s+in\b|is\b|in\b|and\b|or\b|[<>=!]=|//|\*\*|[-+*/%&|^<>@]")
# Keyword arguments whose value changes no result.
IDLE_KEYWORDS = {"strict", "indent", "ensure_ascii", "flush", "stacklevel", "repr"}
# Smaller and larger numbers are tolerances and stand-ins for infinity; doubled they do the same.
SMALLEST, LARGEST = 1e-6, 1e8


@dataclass(frozen=True)
class Change:
    """One change of a module.

    Attributes:
        start: first character that is replaced, counted from the beginning of the module.
        end: the first one behind.
        before: the characters from ``start`` to ``end``.
        after: what replaces them.
        line: line number, from 1.
        text: that line, without its indentation.
        column: where in ``text`` the change begins, from 0.
    """

    start: int
    end: int
    before: str
    after: str
    line: int
    text: str
    column: int

    @property
    def changed(self) -> str:
        """The line with the change made, without its indentation."""
        return self.text[: self.column] + self.after + self.text[self.column + len(self.before) :]

    def apply(self, source: str) -> str:
        """The module with the change made."""
        assert source[self.start : self.end] == self.before
        return source[: self.start] + self.after + source[self.end :]


def changes(source: str) -> list[Change]:
    """Every change that a module allows, in the order of their places; one place may allow several."""
    finder = _Finder(source)
    finder.visit(ast.parse(source))
    return sorted(finder.found, key=lambda change: (change.start, change.after))


class _Finder(ast.NodeVisitor):
    """Walks the syntax tree and notes what can be changed."""

    def __init__(self, source: str) -> None:
        self.source, self.lines = source, source.splitlines()
        self.found: list[Change] = []
        # The tree counts columns in bytes of UTF-8, strings count characters.
        self.line_starts = [0]
        for line in source.splitlines(keepends=True):
            self.line_starts.append(self.line_starts[-1] + len(line))

    def offset(self, line: int, column: int) -> int:
        """Position in the module of a line (from 1) and a column (in bytes)."""
        return self.line_starts[line - 1] + len(self.lines[line - 1].encode()[:column].decode())

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Where a node begins, and the first position behind it."""
        return self.offset(node.lineno, node.col_offset), self.offset(node.end_lineno, node.end_col_offset)

    def note(self, start: int, end: int, after: str) -> None:
        """Add a change."""
        line = self.source.count("\n", 0, start) + 1
        text = self.lines[line - 1].strip()
        column = start - self.line_starts[line - 1] - self.lines[line - 1].index(text)
        self.found.append(Change(start, end, self.source[start:end], after, line, text, column))

    def note_between(self, left: ast.AST, right: ast.AST, others: dict[str, str]) -> None:
        """Change the operator that stands between two operands."""
        start, end = self.span(left)[1], self.span(right)[0]
        gap = re.sub(r"#[^\n]*", lambda comment: " " * len(comment.group()), self.source[start:end])
        operator = OPERATOR.search(gap)
        assert operator is not None, gap
        name = " ".join(operator.group().split())
        if name in others:
            self.note(start + operator.start(), start + operator.end(), others[name])

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, right in zip([node.left, *node.comparators], node.comparators, strict=False):
            self.note_between(left, right, COMPARISONS)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if not (_is_text(node.left) or _is_text(node.right) or _joins(node)):
            self.note_between(node.left, node.right, ARITHMETIC)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if not _is_text(node.value):
            self.note_between(node.target, node.value, ARITHMETIC)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in zip(node.values, node.values[1:], strict=False):
            self.note_between(left, right, {"and": "or", "or": "and"})
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        start = self.span(node)[0]
        sign = next(sign for sign in ("not", "-", "~", "+") if self.source.startswith(sign, start))
        self.note(start, start + len(sign), "")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        start, end = self.span(node)
        match node.value:
            case bool():
                self.note(start, end, str(not node.value))
            case int():
                self.note(start, end, str(node.value + 1))
                self.note(start, end, f"({node.value - 1})" if node.value < 1 else str(node.value - 1))
            case float() if node.value == 0:
                self.note(start, end, "1.0")
            case float() if SMALLEST <= node.value < LARGEST:
                self.note(start, end, repr(2 * node.value))

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in NAMES:
            start, end = self.span(node)
            self.note(start, end, NAMES[node.id])

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.visit(node.value)
        if node.attr in NAMES:
            end = self.span(node)[1]
            self.note(end - len(node.attr), end, NAMES[node.attr])

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg in IDLE_KEYWORDS:
            return
        if node.arg in NAMES:
            start = self.span(node)[0]
            self.note(start, start + len(node.arg), NAMES[node.arg])
        self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        if not (isinstance(node.func, ast.Name) and node.func.id in ("print", "isinstance")):
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for default in [*node.args.defaults, *(value for value in node.args.kw_defaults if value)]:
            self.visit(default)
        for statement in node.body:
            self.visit(statement)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for statement in node.body:
            self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Raise(self, node: ast.Raise) -> None:
        """The words of an error."""

    def visit_Assert(self, node: ast.Assert) -> None:
        """A guard against our own mistakes."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Text for people, mostly."""

    def visit_Import(self, node: ast.Import) -> None:
        """Nothing to change."""

    visit_ImportFrom = visit_Import
    visit_AsyncFunctionDef = visit_FunctionDef


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _joins(node: ast.BinOp) -> bool:
    """Whether an operator joins paths or mappings: any other one ends the program, which every test notices."""
    if isinstance(node.op, ast.Div):
        name = ast.unparse(node.left).split(".")[-1]
        return any(word in name for word in ("folder", "path", "Path("))
    kinds = ast.Dict | ast.DictComp
    return isinstance(node.op, ast.BitOr) and (isinstance(node.left, kinds) or isinstance(node.right, kinds))


def imported_modules(source: str) -> Iterator[str]:
    """Dotted names that a module imports, wherever in it; of ``from a import b`` both ``a`` and ``a.b``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
