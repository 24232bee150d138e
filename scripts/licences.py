"""Lists the crates that the extension is linked with, and refuses licences it could not ship.

usage: licences.py            writes THIRD_PARTY.md
       licences.py --check    only checks the licences
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Licences that allow linking into an Apache-2.0 work without conditions on its source.
ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-1-Clause", "BSD-2-Clause", "BSD-3-Clause",
    "BSL-1.0", "bzip2-1.0.6", "CC0-1.0", "CDLA-Permissive-2.0", "ISC", "MIT", "MIT-0", "Unicode-3.0", "Unlicense", "Zlib",
}


def linked_packages():
    """Every crate reachable from the extension by normal dependencies, itself and its parts left out."""
    metadata = json.loads(subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"],
        cwd=ROOT, check=True, capture_output=True,
    ).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    start = next(package["id"] for package in packages.values() if package["name"] == "s3vector")
    seen, waiting = set(), [start]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for dependency in nodes[name]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    ours = set(metadata["workspace_members"])
    return sorted((packages[name] for name in seen - ours), key=lambda p: (p["name"], p["version"]))


def acceptable(expression):
    """Whether an SPDX expression can be met by allowed licences alone."""
    tokens = re.findall(r"\(|\)|[^()\s]+", (expression or "").replace("/", " OR "))
    parts, position = [], 0
    # Joins "X WITH Y", then lets Python evaluate the ands and ors.
    while position < len(tokens):
        token = tokens[position]
        if token in ("(", ")"):
            parts.append(token)
        elif token in ("AND", "OR"):
            parts.append(token.lower())
        else:
            if tokens[position + 1 : position + 2] == ["WITH"]:
                token = f"{token} WITH {tokens[position + 2]}"
                position += 2
            parts.append(str(token in ALLOWED))
        position += 1
    return bool(parts) and eval(" ".join(parts))  # noqa: S307 - only True, False, and, or, parentheses


def main():
    packages = linked_packages()
    refused = [package for package in packages if not acceptable(package["license"])]
    for package in refused:
        print(f"{package['name']} {package['version']}: licence {package['license']!r} is not allowed", file=sys.stderr)
    if refused:
        return 1
    if "--check" not in sys.argv[1:]:
        lines = [
            "# Crates the extension is linked with\n",
            f"{len(packages)} crates, all under permissive licences. `scripts/licences.py` writes this list.\n",
            "| crate | version | licence |\n|---|---|---|",
        ]
        rows = [f"| {p['name']} | {p['version']} | {p['license'].replace('/', ' OR ')} |" for p in packages]
        (ROOT / "THIRD_PARTY.md").write_text("\n".join(lines + rows) + "\n")
    print(f"{len(packages)} crates, licences allowed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
