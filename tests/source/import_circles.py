"""Finds import circles between the source files of a crate.

A circle is allowed inside one folder, which hides it behind its mod.rs. A `pub use` is no import: a path through it leads
to the file that defines the item.
"""

import pathlib
import re
import sys


def code(text):
    """Drops comments, string literals and the test module at the end of a file."""
    text = re.sub(r'"(?:\\.|[^"\\])*"', '""', re.sub(r"//[^\n]*", "", text))
    return re.split(r"#\[cfg\(test\)\]\s*mod \w+ \{", text)[0]


def leaves(tree, prefix=()):
    """Yields the paths of a use declaration: `a::{b, c::d}` gives (a, b) and (a, c, d)."""
    nested = re.match(r"^([\w:]*?)(?:::)?\{(.*)\}$", tree.strip(), re.S)
    if not nested:
        yield prefix + tuple(part for part in re.sub(r"\s+as\s+\w+$", "", tree.strip()).split("::") if part)
        return
    prefix += tuple(part for part in nested.group(1).split("::") if part)
    depth, branches = 0, [""]
    for character in nested.group(2):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            branches.append("")
        else:
            branches[-1] += character
    for branch in filter(str.strip, branches):
        yield from leaves(branch, prefix)


class Crate:
    REEXPORT = re.compile(r"^\s*pub(?:\([^)]*\))?\s+use\s+([^;]+);", re.M)

    def __init__(self, source):
        self.modules = {}
        for path in source.rglob("*.rs"):
            parts = path.relative_to(source).with_suffix("").parts
            module = tuple(part for part in parts if part not in ("mod", "lib", "main"))
            self.modules[module] = code(path.read_text())
        self.reexports = {}
        for module, text in self.modules.items():
            for declaration in self.REEXPORT.finditer(text):
                for path in leaves(declaration.group(1)):
                    if target := self.absolute(module, path):
                        self.reexports[module + target[-1:]] = target

    def absolute(self, module, path):
        """Returns `path` from the root of the crate, or nothing when it leads out of the crate."""
        if path[:1] == ("crate",):
            return path[1:]
        if path[:1] == ("self",):
            return module + path[1:]
        if path[:1] == ("super",):
            while path[:1] == ("super",):
                module, path = module[:-1], path[1:]
            return module + path
        return module + path if module + path[:1] in self.modules else None

    def defining_module(self, path):
        """Returns the module whose file defines the item at `path`, looking through re-exports."""
        for _ in range(5):
            through = next((n for n in range(len(path), 0, -1) if path[:n] in self.reexports), None)
            if through is None or path[:through] in self.modules:
                break
            path = self.reexports[path[:through]] + path[through:]
        return next((path[:n] for n in range(len(path), -1, -1) if path[:n] in self.modules), None)

    def imports(self, module):
        """Returns the modules whose items the file of `module` uses."""
        text = self.REEXPORT.sub("", self.modules[module])
        paths = [path for tree in re.findall(r"\buse\s+((?:crate|super|self)[^;]+);", text) for path in leaves(tree)]
        text = re.sub(r"\buse\s+[^;]+;", "", text)
        paths += [tuple(path.split("::")) for path in re.findall(r"\b((?:crate|super)(?:::\w+)+)", text)]
        paths += [("self", child) for child in re.findall(r"(?<![\w:])(\w+)::\w+", text) if module + (child,) in self.modules]
        targets = (self.absolute(module, path) for path in paths)
        found = {self.defining_module(target) for target in targets if target is not None}
        return found - {module, None}

    def circles(self):
        """Returns the strongly connected components that span more than one folder (Tarjan's algorithm)."""
        edges = {module: self.imports(module) for module in self.modules}
        index, low, stack, found = {}, {}, [], []

        def visit(module):
            index[module] = low[module] = len(index)
            stack.append(module)
            for target in edges[module]:
                if target not in index:
                    visit(target)
                if target in stack:
                    low[module] = min(low[module], low[target])
            if low[module] == index[module]:
                component = stack[stack.index(module):]
                del stack[stack.index(module):]
                if len(component) > 1 and ({part[:1] for part in component} != {component[0][:1]} or () in component):
                    found.append({part: edges[part] & set(component) for part in component})

        for module in self.modules:
            if module not in index:
                visit(module)
        return found


def name(module):
    return "::".join(module) or "(root)"


def main():
    found = False
    for manifest in sorted(pathlib.Path("crates").glob("*/Cargo.toml")):
        for circle in Crate(manifest.parent / "src").circles():
            found = True
            print(f"{manifest.parent}: import circle")
            for module, targets in sorted(circle.items()):
                print(f"    {name(module)} -> {', '.join(sorted(map(name, targets)))}")
    return found


sys.exit(main())
