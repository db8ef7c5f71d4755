"""A finished run whose newest checkpoint is damaged, one file at a time: `python damaged_run.py DIRECTORY`.

Prints as JSON, for each file and kind of damage, "same" if the run comes out as it was, or what is said. A process of its
own, since orbax leaves unread errors behind when it fails.
"""

import json
import sys
from pathlib import Path

from killed_run import everything, run


def damaged(content, kind):
    half = len(content) // 2
    return content[:half] + (b"" if kind == "shorter" else bytes([content[half] ^ 1]) + content[half + 1 :])


def main():
    directory = Path(sys.argv[1])
    whole = everything(*run(directory, lambda info: None))
    results = []
    for file in sorted(path for path in directory.glob("28/**/*") if path.is_file()):
        content = file.read_bytes()
        for kind in ("shorter", "other bit", "gone"):
            file.write_bytes(damaged(content, kind))
            if kind == "gone":
                file.unlink()
            try:
                outcome = "same" if everything(*run(directory, lambda info: None)) == whole else "other"
            except ValueError as error:
                outcome = str(error)
            results.append((file.relative_to(directory / "28").parts[0], kind, outcome))
        file.write_bytes(content)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
