"""The label tree: leaves are the classes, every other level follows from a leaf's path.

Ids follow the order in which the tree was written, never the alphabet: sorting turns the codes "10" and "2" around
and would tie a model's outputs to the spelling of its labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from opinionlm.errors import UserError

# Between the names of a leaf's path.
PATH_MARK = "/"

Tree = Mapping[str, "Tree | None"] | Sequence["str | Mapping[str, Tree | None]"]


@dataclass(frozen=True)
class Taxonomy:
    """An ordered label tree, held as the paths from the root to its leaves.

    Attributes:
        paths: one tuple of names per leaf, depth-first in the tree's own order; a leaf's id is its position here.

    A leaf is called by its name; leaves of one name below different parents are called by their paths
    (``praise/product`` and ``complaint/product``), so that every class has a name of its own.
    """

    paths: tuple[tuple[str, ...], ...]

    @classmethod
    def from_tree(cls, tree: Tree) -> Taxonomy:
        """Build a taxonomy from nested names.

        Args:
            tree: a mapping (name → subtree; ``None`` or an empty subtree makes the name a leaf), a list of names or of
                one-name mappings, or any nesting of the two. A flat list is a tree of depth one.

        Returns:
            The taxonomy, in the order of the tree.

        Raises:
            UserError: the tree is empty, a name is not text or is blank, a name occurs twice among siblings, or a
                leaf is called like the path of another.
        """
        paths = tuple(_walk(tree, ()))
        if not paths:
            raise UserError("labels: the label tree is empty; name at least two labels")
        taxonomy = cls(paths)
        for leaf, count in Counter(taxonomy.leaves).items():
            if count > 1:
                places = " and ".join(" > ".join(p) for p, n in zip(paths, taxonomy.leaves, strict=True) if n == leaf)
                raise UserError(
                    f"labels: the leaf {leaf!r} occurs {count} times ({places}); leaves of one name are called by "
                    "their paths, and these are equal, so rename one"
                )
        return taxonomy

    def to_tree(self) -> dict[str, Any]:
        """The tree as nested mappings (leaves map to ``None``): `from_tree` of it gives an equal taxonomy."""
        root: dict[str, Any] = {}
        for path in self.paths:
            node = root
            for name in path[:-1]:
                node = node.setdefault(name, {})
            node[path[-1]] = None
        return root

    def to_lists(self) -> list[object]:
        """The tree as nested lists, which keep their order where mappings are written with sorted keys.

        A leaf is its name, an inner node a mapping of its one name to a list; `from_tree` reads this form too.
        """

        def listed(node: dict[str, Any]) -> list[object]:
            return [name if below is None else {name: listed(below)} for name, below in node.items()]

        return listed(self.to_tree())

    @cached_property
    def leaves(self) -> tuple[str, ...]:
        """Leaf names, a path (``praise/product``) where several leaves share a name; the class id is the position."""
        count = Counter(path[-1] for path in self.paths)
        return tuple(path[-1] if count[path[-1]] == 1 else PATH_MARK.join(path) for path in self.paths)

    @cached_property
    def depth(self) -> int:
        """Number of levels: the length of the longest path."""
        return max(len(path) for path in self.paths)

    @property
    def parents(self) -> tuple[tuple[str, ...], ...]:
        """Names above each leaf, from the top; empty for a flat label set."""
        return tuple(path[:-1] for path in self.paths) if self.depth > 1 else ()

    @cached_property
    def _ids(self) -> dict[str, int]:
        """Every spelling of a leaf: its name, and in a tree where leaves share names also the path of any leaf."""
        names = {name: index for index, name in enumerate(self.leaves)}
        if self.shared_names:
            names = {PATH_MARK.join(path): index for index, path in enumerate(self.paths)} | names
        return names

    @cached_property
    def shared_names(self) -> dict[str, tuple[str, ...]]:
        """Name that alone does not tell which leaf is meant → the names of the leaves that end in it."""
        shared: dict[str, list[str]] = {}
        for path, leaf in zip(self.paths, self.leaves, strict=True):
            shared.setdefault(path[-1], []).append(leaf)
        return {name: tuple(leaves) for name, leaves in shared.items() if len(leaves) > 1 and name not in leaves}

    def leaf_id(self, name: str) -> int:
        """The class id of a leaf.

        Raises:
            UserError: there is no such leaf; the message lists the leaves.
        """
        if name in self.shared_names:
            raise UserError(f"the label {name!r} is several: write one of {', '.join(self.shared_names[name])}")
        if name not in self._ids:
            raise UserError(f"unknown label {name!r}; the labels are: {', '.join(self.leaves)}")
        return self._ids[name]

    def is_leaf(self, name: str) -> bool:
        """Whether `leaf_id` knows the name."""
        return name in self._ids

    def names_at(self, level: int) -> tuple[str, ...]:
        """Names at a level as the tree is written, without paths: what files hold in their level columns."""
        self._check_level(level)
        return tuple(dict.fromkeys(path[level - 1] for path in self.paths if len(path) >= level))

    def level_labels(self, level: int) -> tuple[str, ...]:
        """Names at a level (1 is the top) in tree order; leaves that end above the level are not repeated.

        Two branches may carry the same inner name (``a > other > x`` and ``b > other > y``); that is one label.
        """
        self._check_level(level)
        names = (self.label_at(leaf, level) for leaf, path in enumerate(self.paths) if len(path) >= level)
        return tuple(dict.fromkeys(names))

    def label_at(self, leaf_id: int, level: int) -> str:
        """The name a leaf has at a level (1 is the top), or ``""`` where the leaf lies above that level."""
        self._check_level(level)
        path = self.paths[leaf_id]
        if len(path) == level:
            return self.leaves[leaf_id]
        return path[level - 1] if len(path) > level else ""

    def names_of(self, leaf_id: int) -> list[str]:
        """The name of a leaf, and that of every level above it as `label_at` gives it."""
        return [self.leaves[leaf_id], *(self.label_at(leaf_id, level) for level in range(1, self.depth + 1))]

    def leaf_to_level(self, level: int) -> list[int]:
        """For each leaf the index of its name in `level_labels`, or -1 where the leaf lies above that level."""
        labels = self.level_labels(level)
        names = [self.label_at(leaf, level) for leaf in range(len(self.paths))]
        return [labels.index(name) if name else -1 for name in names]

    def _check_level(self, level: int) -> None:
        if not 1 <= level <= self.depth:
            raise UserError(f"level {level} is outside the label tree, which has levels 1 to {self.depth}")


def _walk(node: Tree | None, path: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Paths to the leaves below `node`, depth-first."""
    where = "labels" + "".join(f" > {name}" for name in path)
    if node is None or (isinstance(node, Mapping | list | tuple) and not node):
        return [path] if path else []
    if isinstance(node, str):
        node = [node]
    if isinstance(node, Mapping):
        branches = list(node.items())
    elif isinstance(node, Sequence):
        branches = []
        for item in node:
            branches.extend(item.items() if isinstance(item, Mapping) else [(item, None)])
    else:
        raise UserError(f"{where}: expected names, a list or a mapping of names, found {node!r}")
    paths: list[tuple[str, ...]] = []
    names: set[str] = set()
    for name, below in branches:
        # YAML reads yes, no, on, off and 1 as something other than text: say so instead of guessing a spelling.
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"{where}: a label has to be non-empty text, found {name!r}; put it in quotes")
        if name in names:
            raise UserError(f"{where}: {name!r} is named twice; give every label one place in the tree")
        names.add(name)
        paths.extend(_walk(below, (*path, name)))
    return paths
