"""What include/mpt.h and mpt_cuda.h declare: functions, structs with their members, constants. The header's own plain style is relied on;
a declaration that this cannot read is an error."""

import re
from pathlib import Path


def without_comments(text):
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group(0).count("\n"), text, flags=re.DOTALL)
    return text


def plain_type(text):
    """A type with one space between its words and none before or after stars."""
    return re.sub(r"\s*\*\s*", "*", " ".join(text.split()))


def split_declaration(text):
    """'const char *name' -> ('const char*', 'name'); arrays have the type 'T[]'."""
    kind, name, array = re.fullmatch(r"(.*?[\s*])(\w+)(\[\w+\])?", text).groups()
    return plain_type(kind).strip() + ("[]" if array else ""), name


class Header:
    def __init__(self, *paths):
        self.text = "\n".join(Path(path).read_text() for path in paths)
        self.code = without_comments(self.text)

    def prototypes(self):
        """Name -> prototype without MPT_API and semicolon, in order."""
        found = {}
        for match in re.finditer(r"^MPT_API\s+([^;]*);", self.code, flags=re.MULTILINE):
            prototype = " ".join(match.group(1).split())
            name = re.match(r"[\w\s*]*?(mpt_\w+)\s*\(", prototype)
            if not name:
                raise ValueError(f"cannot read the declaration '{prototype}'")
            found[name.group(1)] = prototype
        if len(found) != len(re.findall(r"^MPT_API\b", self.code, flags=re.MULTILINE)):
            raise ValueError("a declaration beginning with MPT_API was not read")
        return found

    def functions(self):
        """Name -> (result type, [(parameter type, parameter name)]), in order."""
        found = {}
        for name, prototype in self.prototypes().items():
            result, parameters = re.fullmatch(rf"(.*?)\s*\b{name}\s*\((.*)\)", prototype).groups()
            listed = [] if parameters == "void" else [split_declaration(part.strip()) for part in parameters.split(",")]
            found[name] = (plain_type(result), listed)
        return found

    def members(self):
        """Name -> [(member type, member name)], for structs with a definition. Arrays have "T[]", functions "function"."""
        found = {}
        for match in re.finditer(r"typedef struct (mpt_\w+) \{(.*?)\n\} \1;", self.code, flags=re.DOTALL):
            members = []
            for declaration in match.group(2).split(";"):
                declaration = " ".join(declaration.split())
                if not declaration:
                    continue
                pointer = re.match(r".*\(\*(\w+)\)", declaration)
                if pointer:
                    members.append(("function", pointer.group(1)))
                    continue
                first, *more = declaration.split(",")
                kind, name = split_declaration(first.strip())
                members.append((kind, name))
                for part in more:
                    stars, name, array = re.fullmatch(r"(\**)(\w+)(\[\w+\])?", part.strip()).groups()
                    if stars or array or kind.endswith(("*", "[]")):
                        raise ValueError(f"one declaration per line, please: '{declaration}'")
                    members.append((kind, name))
            found[match.group(1)] = members
        return found

    def structs(self):
        """Name -> members' names, for structs with a definition."""
        return {name: [member for _, member in members] for name, members in self.members().items()}

    def handles(self):
        """Structs without a definition."""
        return [name for name in re.findall(r"^typedef struct (mpt_\w+) \1;", self.code, flags=re.MULTILINE)]

    def function_types(self):
        return re.findall(r"^typedef [^;{]*?\(\*(mpt_\w+)\)\(", self.code, flags=re.MULTILINE)

    def scalar_types(self):
        return re.findall(r"^typedef (?:u?int\d+_t) (mpt_\w+);", self.code, flags=re.MULTILINE)

    def constants(self):
        found = re.findall(r"^#define (MPT_\w+) +\(?(?:-?\d+)\)?\s*$", re.sub(r"[ \t]+$", "", self.code, flags=re.MULTILINE),
                           flags=re.MULTILINE)
        return [name for name in found if name != "MPT_H"]

    def undocumented(self):
        """Functions whose declaration no doc comment stands directly above."""
        missing, lines = [], self.text.split("\n")
        for number, line in enumerate(lines):
            match = re.match(r"MPT_API\b.*?(mpt_\w+)\(", line) or re.match(r"MPT_API\b.*[ *](mpt_\w+)\(", line)
            if not match:
                continue
            above = number - 1
            documented = False
            if lines[above].rstrip().endswith("*/"):
                while above >= 0 and "/*" not in lines[above]:
                    above -= 1
                documented = lines[above].lstrip().startswith("/**")
            if not documented:
                missing.append(match.group(1))
        return missing
