#!/usr/bin/env python3
"""Lists what the library product OTQ offers: every public declaration and conformance, a line each.

    scripts/public-surface.py BUILD     BUILD has the modules of a build, such as .build/release

OTQ re-exports types of other modules, which therefore are listed too; these have
nothing public beside them, so that whatever is public there by mistake is seen as well.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

MODULES = ["OTQ", "OTConversion", "OTFoundation", "OTModel", "OTRuntime", "OTTensor"]
# What every type conforms to unless it says otherwise; compilers differ in whether they list it.
IMPLIED = {"Swift.Copyable", "Swift.Escapable", "Swift.SendableMetatype", "Swift.BitwiseCopyable"}


def graph(module, build, folder):
    """The public symbols of a module, as the compiler describes them."""
    maps = sorted(pathlib.Path("Sources").glob("C*/module.modulemap")) + sorted(
        pathlib.Path(build).glob("*.build/module.modulemap"))
    # The headers of a C target, where the build makes no module map for them.
    maps += [path for path in pathlib.Path("Sources").glob("*/include/module.modulemap")]
    options = [option for path in maps for option in ("-Xcc", f"-fmodule-map-file={path.resolve()}")]
    target = json.loads(subprocess.run(
        ["swift", "-print-target-info"], check=True, stdout=subprocess.PIPE, text=True).stdout)["target"]["triple"]
    command = ["swift", "symbolgraph-extract", "-module-name", module, "-minimum-access-level", "public",
               "-skip-synthesized-members", "-target", target, "-I", f"{build}/Modules", "-output-dir", folder]
    result = subprocess.run(command + options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        sys.exit(f"public-surface: {module} cannot be listed:\n{result.stdout}")
    symbols, relations = [], []
    # Extensions of other modules' types have a file of their own.
    for name in sorted(os.listdir(folder)):
        if name == f"{module}.symbols.json" or name.startswith(f"{module}@"):
            with open(f"{folder}/{name}", encoding="utf-8") as file:
                part = json.load(file)
            symbols += part["symbols"]
            relations += part["relationships"]
    return symbols, relations


def lines(module, build, folder):
    symbols, relations = graph(module, build, folder)
    names = {symbol["identifier"]["precise"]: ".".join(symbol["pathComponents"]) for symbol in symbols}
    for symbol in symbols:
        declaration = "".join(part["spelling"] for part in symbol["declarationFragments"])
        yield f"{module}.{names[symbol['identifier']['precise']]}: {' '.join(declaration.split())}"
    for relation in relations:
        if relation["kind"] == "conformsTo" and relation["source"] in names:
            target = relation.get("targetFallback") or names.get(relation["target"], relation["target"])
            if target not in IMPLIED:
                yield f"{module}.{names[relation['source']]} conforms to {target}"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        for module in MODULES:
            print("\n".join(sorted(set(lines(module, sys.argv[1], folder)))))


if __name__ == "__main__":
    main()
