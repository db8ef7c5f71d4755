"""Draws mutants of the sources with a fixed seed and prints them as rows: source file, the line before, the line after.

    python -m tests.mutants.draw > tests/mutants/mutants.csv      (needs cosmic-ray, which is in no lock file)

A mutant is a small fault: a swapped sign, a dropped term, a shifted bound, a flipped comparison. Cosmic-ray makes them, except
for dropped terms, which it does not have. Rows hold lines and no numbers of lines, so that they survive edits elsewhere.
"""

import ast
import csv
import difflib
import random
import sys
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

SEED = 32

# How many mutants are drawn from which files.
STRATA = {
    "packages/slax-rules/src/slax_rules": 52,
    "packages/slax-neurons/src/slax_neurons": 40,
    "packages/slax-data/src/slax_data/encoding": 7,
    "packages/slax-data/src/slax_data/sets": 9,
    "gallery": 12,
}
BINARY = ["Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Mul_Add", "Sub_Mul"]
COMPARISONS = ["Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Lt_Gt", "Gt_Lt", "Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is"]
OPERATORS = [
    *(f"ReplaceBinaryOperator_{change}" for change in BINARY),
    *(f"ReplaceComparisonOperator_{change}" for change in COMPARISONS),
    *("ReplaceUnaryOperator_USub_UAdd", "ReplaceUnaryOperator_Delete_Not", "AddNot", "NumberReplacer"),
    *("ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue"),
]


def places(code: str) -> dict[str, int]:
    """The number of places in the code that each of cosmic-ray's operators can change."""
    nodes = list(ast_nodes(get_ast(code)))
    operators = {name: get_operator(f"core/{name}")() for name in OPERATORS}
    return {
        name: sum(len(list(operator.mutation_positions(node))) for node in nodes)
        for name, operator in operators.items()
    }


def sums(code: str) -> list[ast.BinOp]:
    """The sums, differences and products in the code that stand in one line."""
    nodes = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.BinOp))
    return [n for n in nodes if isinstance(n.op, ast.Add | ast.Sub | ast.Mult) and n.lineno == n.end_lineno]


def without_a_term(code: str, node: ast.BinOp, kept: ast.expr) -> str:
    """The code with one operand of a sum or product in place of both."""
    lines = code.splitlines(keepends=True)
    line = lines[node.lineno - 1]
    lines[node.lineno - 1] = (
        line[: node.col_offset] + (ast.get_source_segment(code, kept) or "") + line[node.end_col_offset :]
    )
    return "".join(lines)


def changed_lines(before: str, after: str) -> tuple[str, str] | None:
    """The one line that differs, before and after, or nothing where several do."""
    new = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[:2] in ("- ", "+ ")]
    return (new[0][2:], new[1][2:]) if len(new) == 2 and new[0][0] == "-" and new[1][0] == "+" else None


def in_a_docstring_or_annotation(line: str) -> bool:
    """Whether a line is prose or a signature, where a mutant changes nothing that a test could see."""
    return line.lstrip().startswith(("def ", "from ", "import ", "#", '"""', "raise ", 'f"', '"'))


def drawn(folder: str, count: int, at_random: random.Random) -> list[tuple[str, str, str, str]]:
    """Mutants of the files in a folder, spread over kinds of faults and over files: at most three of each file."""
    codes = {str(path): path.read_text(encoding="utf-8") for path in sorted(Path(folder).rglob("*.py"))}
    where: dict[str, list[tuple[str, int]]] = {"dropped term": []}
    for path, code in codes.items():
        for kind, number in places(code).items():
            where.setdefault(kind, []).extend((path, at) for at in range(number))
        where["dropped term"].extend((path, at) for at in range(2 * len(sums(code))))
    kinds = [kind for kind, found in sorted(where.items()) if found] + ["dropped term"] * 4
    chosen: list[tuple[str, str, str, str]] = []
    while len(chosen) < count:
        kind = at_random.choice(kinds)
        path, at = at_random.choice(where[kind])
        code = codes[path]
        if kind == "dropped term":
            node = sums(code)[at // 2]
            mutant = without_a_term(code, node, node.right if at % 2 else node.left)
        else:
            mutant = mutate_code(code, get_operator(f"core/{kind}")(), at)
        lines = changed_lines(code, mutant)
        if lines is None or in_a_docstring_or_annotation(lines[0]) or code.count(lines[0] + "\n") != 1:
            continue
        row = (path, kind, *lines)
        if row not in chosen and sum(other[0] == path for other in chosen) < 3:
            chosen.append(row)
    return sorted(chosen)


if __name__ == "__main__":
    at_random = random.Random(SEED)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["file", "fault", "before", "after"])
    for folder, count in STRATA.items():
        writer.writerows(drawn(folder, count, at_random))
