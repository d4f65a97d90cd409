#!/usr/bin/env python3
"""Manual pages of otconvert, one for each command, from what the program says of itself.

    otconvert --experimental-dump-help | scripts/make-manual.py VERSION FOLDER
"""
import json
import pathlib
import sys


def escaped(text):
    """Text as roff prints it: no character commands, no line that begins a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line[:1] in (".", "'") else line for line in text.split("\n"))


def flag(name):
    return ("-" if name["kind"] == "short" else "--") + name["name"]


def usage(argument):
    """An argument as the synopsis has it."""
    if argument["kind"] == "positional":
        text = f"\\fI{escaped(argument['valueName'])}\\fR"
    else:
        text = f"\\fB{escaped(flag(argument['preferredName']))}\\fR"
        if argument["kind"] == "option":
            text += f" \\fI{escaped(argument['valueName'])}\\fR"
    text += " ..." if argument["isRepeating"] else ""
    return f"[{text}]" if argument["isOptional"] else text


def described(argument):
    if argument["kind"] == "positional":
        term = usage({**argument, "isOptional": False})
    else:
        term = ", ".join(f"\\fB{escaped(flag(name))}\\fR" for name in argument["names"])
        if argument["kind"] == "option":
            term += f" \\fI{escaped(argument['valueName'])}\\fR"
    text = argument.get("abstract", "")
    if argument.get("allValues") and "(values:" not in text:
        text += f" (values: {', '.join(argument['allValues'])})"
    if "defaultValue" in argument and "[default:" not in text:
        text += f" [default: {argument['defaultValue']}]"
    more = argument.get("discussion")
    return [".TP", term, escaped(" ".join((text + (" " + more if more else "")).split()))]


def paragraphs(discussion):
    """The parts of a discussion: (title or None, lines, whether they stand as they are)."""
    for part in discussion.split("\n\n"):
        lines = part.split("\n")
        if lines[0] == "EXAMPLES":
            yield "EXAMPLES", lines[1:], True
        else:
            yield None, lines, any(line.startswith(" ") for line in lines)


def page(command, parents, version):
    name = " ".join([*parents, command["commandName"]])
    arguments = [argument for argument in command.get("arguments", []) if argument["shouldDisplay"]]
    lines = [f".TH {escaped(name).replace(' ', '-').upper()} 1 \"\" \"otq {version}\" \"otq\"", ".SH NAME",
             f"{escaped(name.replace(' ', '-'))} \\- {escaped(command['abstract'].rstrip('.'))}", ".SH SYNOPSIS",
             f"\\fB{escaped(name)}\\fR " + " ".join(map(usage, arguments)), ".SH DESCRIPTION",
             escaped(command["abstract"])]
    examples = []
    for title, content, stands in paragraphs(command.get("discussion") or ""):
        if title:
            examples += content
        elif content != [""]:
            lines += [".PP"] + ([".nf"] if stands else []) + [escaped("\n".join(content))] + ([".fi"] if stands else [])
    sections = {}
    for argument in arguments:
        own = "ARGUMENTS" if argument["kind"] == "positional" else "OPTIONS"
        sections.setdefault(argument.get("sectionTitle", own).upper(), []).append(argument)
    for title, members in sections.items():
        lines += [f".SH {escaped(title)}"] + [line for argument in members for line in described(argument)]
    commands = [c for c in command.get("subcommands", []) if c["shouldDisplay"] and c["commandName"] != "help"]
    if commands:
        lines.append(".SH COMMANDS")
        for c in commands:
            lines += [".TP", f"\\fB{escaped(name)}\\-{escaped(c['commandName'])}\\fR(1)", escaped(c["abstract"])]
    if examples:
        lines += [".SH EXAMPLES", ".nf", escaped("\n".join(examples)), ".fi"]
    if parents:
        lines += [".SH SEE ALSO", f"\\fB{escaped('-'.join(parents))}\\fR(1)"]
    yield name.replace(" ", "-"), "\n".join(lines) + "\n"
    for c in commands:
        yield from page(c, [*parents, command["commandName"]], version)


def main():
    version, folder = sys.argv[1:]
    for name, text in page(json.load(sys.stdin)["command"], [], version):
        (pathlib.Path(folder) / f"{name}.1").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
