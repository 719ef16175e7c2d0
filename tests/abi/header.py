"""What include/mpt.h declares: functions, structs with their members, constants. The header's own plain style is relied on;
a declaration that this cannot read is an error."""

import re
from pathlib import Path


def without_comments(text):
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group(0).count("\n"), text, flags=re.DOTALL)
    return text


class Header:
    def __init__(self, path):
        self.text = Path(path).read_text()
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

    def structs(self):
        """Name -> members, for structs with a definition."""
        found = {}
        for match in re.finditer(r"typedef struct (mpt_\w+) \{(.*?)\n\} \1;", self.code, flags=re.DOTALL):
            members = []
            for declaration in match.group(2).split(";"):
                declaration = " ".join(declaration.split())
                if not declaration:
                    continue
                pointer = re.match(r".*\(\*(\w+)\)", declaration)
                if pointer:
                    members.append(pointer.group(1))
                else:
                    for part in declaration.split(","):
                        members.append(re.search(r"(\w+)(\[\w+\])?$", part.strip()).group(1))
            found[match.group(1)] = members
        return found

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
