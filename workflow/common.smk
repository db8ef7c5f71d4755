"""The scale, checked configurations, and the files that a script depends on."""

import functools
import re
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError

from experiments.common.job import SCALES
from experiments.common.schemas import validator


def read_yaml(path):
    try:
        return yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise WorkflowError(f"{path} is not valid YAML, no job was started: {error}") from None


def check(value, schema, where):
    """Stop the workflow before any job, with one line per mistake: where it is, what was given, and what is known."""
    mistakes = []
    for error in validator(schema).iter_errors(value):
        place = ": ".join([where, ".".join(map(str, error.absolute_path))]).removesuffix(": ")
        if error.validator == "additionalProperties":
            known = error.schema["properties"]
            unknown = ", ".join(repr(key) for key in error.instance if key not in known)
            mistakes.append(f"{place}: unknown key {unknown}; known keys: {', '.join(known)}")
        else:
            mistakes.append(f"{place}: {error.message}")
    if mistakes:
        raise WorkflowError("\n".join(["The configuration is not valid, no job was started.", *mistakes]))


SCALES_SCHEMA = read_yaml("workflow/config.schema.yaml")
COMMAND_LINE_SCHEMA = {"properties": {"scale": {"enum": list(SCALES)}}, "additionalProperties": False}

check(config, COMMAND_LINE_SCHEMA, "--config")
SCALE = config.get("scale", "quick")


wildcard_constraints:
    scale="|".join(SCALES),


def experiment_config(name):
    """An experiment's settings by scale, checked against the common schema and the experiment's own."""
    path = f"experiments/{name}/config.yaml"
    content = read_yaml(path)
    check(content, SCALES_SCHEMA, path)
    schema = read_yaml(f"experiments/{name}/config.schema.yaml")
    for scale, settings in content["scales"].items():
        check(settings, schema, f"{path}: scales.{scale}")
    return content["scales"]


def figure(stem):
    """The table and pictures of a figure, as outputs of the rule that plots it; they are also in Snakemake's own report."""
    marks = {"caption": str(Path("workflow/figure.rst").resolve()), "category": stem}
    paths = {suffix: f"figures/{{scale}}/{stem}.{suffix}" for suffix in ("csv", "png", "svg")}
    return [report(path, labels={"file": suffix}, **marks) for suffix, path in paths.items()]


@functools.cache
def imported_by(file):
    """Our own sources that a source imports itself."""
    found = []
    for module in re.findall(
        r"^\s*(?:from|import) ((?:slax_|experiments\.|peers\.)[\w.]+)", file.read_text(), re.MULTILINE
    ):
        package, *names = module.split(".")
        if package == "experiments":
            found.append(Path(package, *names).with_suffix(".py"))
        elif package == "peers":
            found.append(file.with_name(f"{names[0]}.py"))
        else:
            found += sources_of(package)
    return found


@functools.cache
def sources_of(package):
    return sorted(Path("packages").glob(f"*/src/{package}/**/*.py"))


@functools.cache
def code(*scripts):
    """Scripts and all of our sources that they import, directly or indirectly: an edit of any of them reruns their jobs.

    Importing anything from experiments runs experiments/__init__.py, which may put the stand-ins on the path.
    """
    files = dict.fromkeys(Path(script) for script in scripts)
    if any(file.parts[0] == "experiments" for file in files):
        files |= dict.fromkeys([Path("experiments/__init__.py"), *Path("experiments/common/stand_ins").glob("*.py")])
    waiting = list(files)
    while waiting:
        new = [source for source in imported_by(waiting.pop(0)) if source not in files]
        files |= dict.fromkeys(new)
        waiting += new
    return sorted(str(file) for file in files)


def dvc_sources():
    """Every file below the source folders named in dvc.yaml, except for the files that .dvcignore leaves out."""
    stages = read_yaml("dvc.yaml")["stages"].values()
    made = {name for stage in stages for out in stage["outs"] for name in out}
    folders = {name for stage in stages for name in stage["deps"]} - made
    files = [file for folder in map(Path, folders) for file in [folder, *folder.rglob("*")] if file.is_file()]
    return sorted(str(file) for file in files if file.suffix not in (".md", ".pyc") and ".egg-info" not in str(file))
