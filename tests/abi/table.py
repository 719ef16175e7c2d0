"""Writes what mpt.h declares as tables of C++: table.py FILE. table.h says what they are."""

import sys
from pathlib import Path

from header import Header

HERE = Path(__file__).parent
MPT_H = HERE.parent.parent / "include/mpt.h"


def kind_of(header, text):
    """What a parameter or a struct's member is, as a name of table.h's Kind."""
    bare = text.removeprefix("const ").rstrip("*")
    if "struct " in text:  # of another project's type
        return "data_out"
    if text.endswith("**") or text == "const char*const*":
        return "handle_out" if bare in header.handles() else "data_in"
    if text.endswith("*"):
        constant = text.startswith("const ")
        if bare == "char":
            return "text" if constant else "data_out"
        if bare in header.handles():
            return "handle"
        if bare in header.members():
            return "struct_in" if constant else "struct_out"
        return "data_in" if constant else "data_out"
    if text == "function" or text in header.function_types():
        return "function"
    if text == "mpt_tensor":
        return "tensor"
    if text in header.scalar_types():
        return "enumeration"
    return {"int32_t": "i32", "uint32_t": "u32", "int64_t": "i64", "uint64_t": "u64", "double": "f64"}.get(text, "data")


def argument(number, kind, text):
    if kind == "f64":
        return f"a[{number}].number"
    if kind in ("enumeration", "tensor", "i32", "i64", "u64"):
        return f"static_cast<{text}>(a[{number}].integer)"
    return f"static_cast<{text}>(const_cast<void*>(a[{number}].pointer))"


def first_sizes():
    """Struct -> size in the first version that had it."""
    return dict(line.split() for line in (HERE / "first_sizes.txt").read_text().splitlines())


def lines(header):
    yield "const std::vector<Function> functions = {"
    for name, (result, parameters) in header.functions().items():
        kinds = [(kind_of(header, text), text, parameter) for text, parameter in parameters]
        listed = ", ".join(f'{{Kind::{kind}, "{text}", "{parameter}"}}' for kind, text, parameter in kinds)
        call = f"{name}({', '.join(argument(i, kind, text) for i, (kind, text, _) in enumerate(kinds))})"
        if result == "void":
            body = f"{call}; return Result{{0, nullptr}};"
        elif result.endswith("*"):
            body = f"return Result{{0, {call}}};"
        else:
            body = f"return Result{{static_cast<int64_t>({call}), nullptr}};"
        unused = "[[maybe_unused]] const Value* a"
        yield f'    {{"{name}", "{result}", {{{listed}}}, []({unused}) {{ {body} }}}},'
    yield "};"
    first = first_sizes()
    yield "const std::vector<Struct> structs = {"
    for name, members in header.members().items():
        init = name + "_init"
        has_init = init in header.functions()
        listed = ", ".join(
            f'{{Kind::{kind_of(header, text)}, "{text}", "{member}", offsetof({name}, {member}), '
            f"sizeof({name}::{member})}}" for text, member in members)
        initialise = f"[](void* s, uint64_t n) {{ return {init}(static_cast<{name}*>(s), n); }}" if has_init else "nullptr"
        if has_init and name not in first:
            raise ValueError(f"{name} is not in first_sizes.txt: python3 tests/abi/abi.py renew adds it")
        yield f'    {{"{name}", sizeof({name}), {first.get(name, 0)}, {{{listed}}}, {initialise}}},'
    yield "};"
    yield "const std::vector<std::string> handles = {" + ", ".join(f'"{name}"' for name in header.handles()) + "};"


def main():
    header = Header(MPT_H)
    Path(sys.argv[1]).write_text("// Written by tests/abi/table.py from include/mpt.h.\n" + "\n".join(lines(header)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
