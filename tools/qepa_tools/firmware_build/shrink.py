"""Firmware sources made small before they are compiled: the same program with less in it and shorter names.

On a board every distinct name is an interned string on the heap, every module variable an entry in a dictionary, and
half of a codec is for the other side. mpy-cross folds within one module, if told; this looks at all of them at once:

- annotations go, and the branches of `try: import ... except ImportError` that are for the other interpreter;
- the sentence of a WireError goes: its one-word reason is what a board counts and says;
- an integer assigned once at the top of a module becomes its value wherever it is used;
- functions, classes, methods and module variables go whose name nothing reads that is itself reached;
- names become short, but for those of errors and modules; two share one where no module, and no group of modules whose
  classes inherit from each other, uses both.

What a string spells keeps its name and stays: getattr or an import may ask for it; only what a namedtuple is called and
its fields are names like others. So does what is in ``keep``, which
other programs ask a board for over its console or from its loader, and what is also a name in MicroPython's modules.
"""

import ast
import itertools
import keyword
import string
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from .external_names import EXTERNAL_NAMES

_FOR_CPYTHON = ("abc", "collections.abc", "cryptography", "hmac", "typing")
_FOR_MICROPYTHON = ("cryptolib", "micropython")
_BRIEF = "WireError"
_SMALL = 1 << 30  # beyond it a number is an object each time it is used

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def shrink(sources: Mapping[str, str], keep: Iterable[str] = (), fixed: Iterable[str] = ()) -> dict[str, str]:
    """Return ``sources`` (module name: text; a package's name for its __init__) made small.

    ``keep``: names that stay, each wherever it is defined. ``fixed``: names that are not changed where they stay.
    """
    trees = {name: ast.parse(text) for name, text in sources.items()}
    homes = _Homes(trees)
    for tree in trees.values():
        _ForBoard().visit(tree)
    kept = set(keep) | {word for tree in trees.values() for word in _spelt(tree)}
    _fold_integers(trees, homes, kept)
    _drop_unreached(trees, kept)
    _rename_all(trees, homes, kept | set(fixed))
    named = {each.arg for tree in trees.values() for each in ast.walk(tree) if isinstance(each, ast.keyword)}
    for tree in trees.values():
        _Parameters(named).visit(tree)
    return {name: ast.unparse(ast.fix_missing_locations(tree)) + "\n" for name, tree in trees.items()}


def _spelt(tree: ast.Module) -> Iterator[str]:
    """Words that stand in strings, dotted ones in parts."""
    names = {id(each) for each in _tuple_names(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in names:
            yield from (word for word in node.value.split(".") if word.isidentifier())


def _tuple_names(tree: ast.AST) -> list[ast.Constant]:
    """What a namedtuple at the top of a module is called, and its fields."""
    calls = [
        node.value
        for node in getattr(tree, "body", ())
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name)
    ]
    constants = (part for call in calls if call.func.id == "namedtuple" for part in ast.walk(call))  # type: ignore[attr-defined]
    return [each for each in constants if isinstance(each, ast.Constant)]


class _Homes:
    """Which module an import names."""

    def __init__(self, trees: Mapping[str, ast.Module]) -> None:
        self._packages = {name for name in trees if any(other.startswith(name + ".") for other in trees)}
        self._modules = set(trees)

    def of(self, module: str, node: ast.ImportFrom) -> str:
        """The module that ``node``, a statement of ``module``, imports from."""
        if not node.level:
            return node.module or ""
        parts = module.split(".")
        base = parts[: len(parts) - node.level + (module in self._packages)]
        return ".".join([*base, *([node.module] if node.module else [])])

    def __contains__(self, module: str) -> bool:
        return module in self._modules


# For the board only


class _ForBoard(ast.NodeTransformer):
    """Drops annotations, docstrings, sentences of errors and what is for CPython."""

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        error = node.exc
        if isinstance(error, ast.Call) and isinstance(error.func, ast.Name) and error.func.id == _BRIEF:
            del error.args[1:]
        return node

    def visit_FunctionDef(self, node: _Function) -> ast.AST:
        node.returns = None
        for argument in _arguments(node.args):
            argument.annotation = None
        return self._without_docstring(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self.visit_FunctionDef(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._without_docstring(node)

    def _without_docstring(self, node: _Function | ast.ClassDef | ast.Module) -> ast.AST:
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            del node.body[0]
        self.generic_visit(node)
        _fill(node)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        return None if node.value is None else ast.copy_location(ast.Assign([node.target], node.value), node)

    def visit_Try(self, node: ast.Try) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        first, handlers = node.body[0], node.handlers
        caught = handlers[0].type if len(handlers) == 1 else None
        if not isinstance(caught, ast.Name) or caught.id != "ImportError" or not isinstance(first, ast.ImportFrom):
            return node
        module = first.module or ""
        if module in _FOR_CPYTHON or module.split(".")[0] in _FOR_CPYTHON:
            return [each for each in handlers[0].body if not isinstance(each, ast.Pass)]
        return node.body if module in _FOR_MICROPYTHON else node


def _arguments(arguments: ast.arguments) -> list[ast.arg]:
    return [each for each in ast.walk(arguments) if isinstance(each, ast.arg)]


def _fill(node: ast.AST) -> None:
    """A block that has become empty passes."""
    if not isinstance(node, ast.Module) and getattr(node, "body", None) == []:
        node.body.append(ast.Pass())  # type: ignore[attr-defined]


# Integers


def _fold_integers(trees: Mapping[str, ast.Module], homes: _Homes, kept: set[str]) -> None:
    """Find all constants, imported ones too as others may import them from there; then put them where they are used."""
    values: dict[str, dict[str, int]] = {name: {} for name in trees}
    bound = {name: Counter(_bound_names(tree)) for name, tree in trees.items()}
    found = -1
    while found != (found := sum(map(len, values.values()))):
        for module, tree in trees.items():
            _find_integers(module, tree, homes, values, bound[module])
    for module, tree in trees.items():
        _Fold(module, homes, values, kept).visit(tree)


def _find_integers(
    module: str, tree: ast.Module, homes: _Homes, values: dict[str, dict[str, int]], bound: Counter[str]
) -> None:
    mine = values[module]
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            theirs = values.get(homes.of(module, node), {})
            for alias in node.names:
                name = alias.asname or alias.name
                if alias.name in theirs and bound[name] == 1:
                    mine[name] = theirs[alias.name]
        elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            value = _evaluate(node.value, mine)
            if value is not None and abs(value) < _SMALL and bound[name] == 1:
                mine[name] = value


def _bound_names(tree: ast.AST) -> Iterator[str]:
    """Every name that is bound anywhere below ``tree``, as often as it is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name


def _evaluate(node: ast.expr, known: Mapping[str, int]) -> int | None:
    """Value of an integer expression over ``known``, or None."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "const":
        return _evaluate(node.args[0], known)
    parts = list(ast.walk(node))
    allowed = ast.BinOp | ast.UnaryOp | ast.Constant | ast.Name | ast.operator | ast.unaryop | ast.expr_context
    if not all(isinstance(part, allowed) for part in parts):
        return None
    if not all(type(part.value) is int for part in parts if isinstance(part, ast.Constant)):
        return None
    if not {part.id for part in parts if isinstance(part, ast.Name)} <= known.keys():
        return None
    code = compile(ast.fix_missing_locations(ast.Expression(node)), "constant", "eval")
    value = eval(code, {"__builtins__": {}}, dict(known))  # noqa: S307  our own source, arithmetic on integers alone
    return value if type(value) is int else None


class _Fold(ast.NodeTransformer):
    def __init__(self, module: str, homes: _Homes, values: dict[str, dict[str, int]], kept: set[str]) -> None:
        self._module = module
        self._homes = homes
        self._values = values
        self._known = values[module]
        self._kept = kept
        self._modules: dict[str, str] = {}  # name here: module of the firmware

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        home = self._homes.of(self._module, node)
        left = []
        for alias in node.names:
            if f"{home}.{alias.name}" in self._homes:
                self._modules[alias.asname or alias.name] = f"{home}.{alias.name}"
            if alias.name not in self._values.get(home, {}) or alias.name in self._kept:
                left.append(alias)
        node.names = left
        return node if left else None

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        target = node.targets[0]
        if isinstance(target, ast.Name) and target.id in self._known and target.id not in self._kept:
            return None
        self.generic_visit(node)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if isinstance(node.ctx, ast.Load) and node.id in self._known:
            return ast.copy_location(ast.Constant(self._known[node.id]), node)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id in self._modules and isinstance(node.ctx, ast.Load):
            value = self._values[self._modules[node.value.id]].get(node.attr)
            if value is not None:
                return ast.copy_location(ast.Constant(value), node)
        self.generic_visit(node)
        return node


# What is reached


def _drop_unreached(trees: Mapping[str, ast.Module], kept: set[str]) -> None:
    """By name alone: what has a name that something reached reads is reached, whosever it is."""
    reach = _Reach()
    for tree in trees.values():
        for node in tree.body:
            reach.note(node)
    for name in kept:
        reach.read(name)
    reach.settle()
    for tree in trees.values():
        _Drop(reach.names).visit(tree)


class _Reach:
    def __init__(self) -> None:
        self.names: set[str] = set()  # that something reached reads
        self._definitions: dict[str, list[ast.AST]] = defaultdict(list)
        self._waiting: list[ast.AST] = []

    def note(self, node: ast.AST) -> None:
        """A statement of a module, or of a class that is reached."""
        name = _defined(node)
        if name is None or name in self.names:
            self._waiting.append(node)
        else:
            self._definitions[name].append(node)

    def read(self, name: str) -> None:
        """Something reached reads ``name``."""
        if name not in self.names:
            self.names.add(name)
            self._waiting += self._definitions.pop(name, ())

    def settle(self) -> None:
        """Follow all names."""
        while self._waiting:
            node = self._waiting.pop()
            if isinstance(node, ast.ClassDef):
                for member in node.body:
                    self.note(member)
                for base in [*node.bases, *node.decorator_list]:
                    self._follow(base)
            else:
                self._follow(node)

    def _follow(self, node: ast.AST) -> None:
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
                self.read(part.id)
            elif isinstance(part, ast.Attribute):
                self.read(part.attr)
            elif isinstance(part, ast.Import | ast.ImportFrom) and isinstance(node, _Function):
                for alias in part.names:  # it is used there
                    self.read(alias.name)


def _defined(node: ast.AST) -> str | None:
    """The name that a statement may be dropped with, or None: dunder methods go with their class."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return None if node.name.startswith("__") else node.name
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return None


class _Drop(ast.NodeTransformer):
    """A class's members are dropped as module variables are; what a function holds stays with it."""

    def __init__(self, reached: set[str]) -> None:
        self._reached = reached

    def visit(self, node: ast.AST) -> ast.AST | None:
        name = _defined(node)
        if name is not None and name not in self._reached:
            return None
        if isinstance(node, ast.ImportFrom):
            node.names = [alias for alias in node.names if (alias.asname or alias.name) in self._reached]
            return node if node.names else None
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return node
        self.generic_visit(node)
        _fill(node)
        return node


# Names


def _rename_all(trees: Mapping[str, ast.Module], homes: _Homes, kept: set[str]) -> None:
    """Names that are stored on a board. One that is only used, never defined, is someone else's and stays."""
    groups = _families(trees, homes)
    uses: Counter[str] = Counter()
    places: dict[str, set[str]] = defaultdict(set)
    stored: set[str] = set()
    errors: set[str] = set()
    for module, tree in trees.items():
        stored.update(_stored_names(tree))
        for each in _tuple_names(tree):
            stored.add(str(each.value))
            uses[str(each.value)] += 1
            places[str(each.value)].add(groups[module])
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                errors.add(node.name)  # what an error is called is read by people
            for name, _ in _names(node):
                uses[name] += 1
                places[name].add(groups[module])
    mapping: dict[str, str] = {}
    taken: dict[str, set[str]] = defaultdict(set)  # short name: where it is used
    fixed = kept | errors | EXTERNAL_NAMES | _foreign_names(trees, homes)
    never = fixed | set(uses) | set(keyword.kwlist)
    for name, _ in uses.most_common():
        if len(name) > 2 and name in stored - fixed and not name.startswith("__"):
            short = next(each for each in _short_names() if each not in never and not taken[each] & places[name])
            taken[short] |= places[name]
            mapping[name] = short
    for tree in trees.values():
        for each in _tuple_names(tree):
            each.value = mapping.get(str(each.value), str(each.value))
        for node in ast.walk(tree):
            _rename(node, mapping)


def _foreign_names(trees: Mapping[str, ast.Module], homes: _Homes) -> set[str]:
    """Names of modules, and what is imported from modules that are not made small."""
    names = {part for module in trees for part in module.split(".")}
    for module, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import) or (
                isinstance(node, ast.ImportFrom) and homes.of(module, node) not in homes
            ):
                names.update(part for alias in node.names for part in alias.name.split("."))
    return names


def _stored_names(tree: ast.Module) -> Iterator[str]:
    """Names of functions, classes, attributes and variables of modules and classes; not a function's variables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
            with_default = node.args.args[len(node.args.args) - len(node.args.defaults) :]
            yield from (each.arg for each in [*with_default, *node.args.kwonlyargs])
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Module | ast.ClassDef):
            yield from (node.name for node in [node] if isinstance(node, ast.ClassDef))
            for statement in node.body:
                if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    yield from (each for each in _bound_names(statement))
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname


def _families(trees: Mapping[str, ast.Module], homes: _Homes) -> dict[str, str]:
    """Module: the first module of its family; modules whose classes inherit from each other are of one."""
    first = {name: name for name in trees}

    def root(name: str) -> str:
        while first[name] != name:
            name = first[name]
        return name

    for module, tree in trees.items():
        origin = {
            alias.asname or alias.name: homes.of(module, node)
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for node in ast.walk(tree):
            for base in node.bases if isinstance(node, ast.ClassDef) else ():
                home = origin.get(base.id, module) if isinstance(base, ast.Name) else module
                if home in first:
                    first[root(module)] = root(home)
    return {name: root(name) for name in trees}


def _short_names() -> Iterator[str]:
    for length in itertools.count(2):
        for letters in itertools.product(string.ascii_letters, repeat=length):
            yield "".join(letters)


def _names(node: ast.AST) -> Iterator[tuple[str, bool]]:
    """Names in one node, and whether it defines them."""
    if isinstance(node, ast.Name):
        yield node.id, not isinstance(node.ctx, ast.Load)
    elif isinstance(node, ast.Attribute):
        yield node.attr, not isinstance(node.ctx, ast.Load)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name, True
    elif isinstance(node, ast.arg):
        yield node.arg, True
    elif isinstance(node, ast.keyword) and node.arg:
        yield node.arg, False
    elif isinstance(node, ast.alias):
        yield node.name, False
        if node.asname:
            yield node.asname, True
    elif isinstance(node, ast.Global | ast.Nonlocal):
        yield from ((name, True) for name in node.names)


def _rename(node: ast.AST, mapping: Mapping[str, str]) -> None:
    for field in ("id", "attr", "name", "arg", "asname"):
        value = getattr(node, field, None)
        if isinstance(value, str) and value in mapping:
            setattr(node, field, mapping[value])
    if isinstance(node, ast.Global | ast.Nonlocal):
        node.names = [mapping.get(name, name) for name in node.names]


class _Parameters(ast.NodeTransformer):
    """Parameters without default, but for self and those that calls name, become a, b, c, ..."""

    def __init__(self, named: set[str | None]) -> None:
        self._named = named
        self._scopes: list[dict[str, str]] = [{}]

    def visit_FunctionDef(self, node: _Function) -> ast.AST:
        node.decorator_list = [self.visit(each) for each in node.decorator_list]
        return self._function(node, node.body)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self.visit_FunctionDef(node)

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return self._function(node, [node.body])

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._scopes[-1].get(node.id, node.id)
        return node

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.AST:
        node.names = [self._scopes[-1].get(name, name) for name in node.names]
        return node

    def _function(self, node: _Function | ast.Lambda, body: "list[ast.stmt] | list[ast.expr]") -> ast.AST:
        arguments = node.args
        for default in [*arguments.defaults, *(each for each in arguments.kw_defaults if each is not None)]:
            self.visit(default)
        mine = {each.arg for each in _arguments(arguments)}
        used = mine | {name for each in body for part in ast.walk(each) for name, _ in _names(part)}
        used |= {name for each in body for name in _bound_names(each)} | set(self._scopes[-1].values())
        free = (name for name in string.ascii_lowercase if name not in used)
        mapping: dict[str, str] = {}
        for each in arguments.args[: len(arguments.args) - len(arguments.defaults)]:
            if each.arg != "self" and len(each.arg) > 1 and each.arg not in self._named:
                mapping[each.arg] = next(free, each.arg)
                each.arg = mapping[each.arg]
        outer = {
            name for each in body for part in ast.walk(each) if isinstance(part, ast.Nonlocal) for name in part.names
        }
        hidden = mine | {name for each in body for name in _bound_names(each)} - outer
        inherited = {name: short for name, short in self._scopes[-1].items() if name not in hidden}
        self._scopes.append(inherited | mapping)
        for part in body:
            self.visit(part)
        self._scopes.pop()
        return node
