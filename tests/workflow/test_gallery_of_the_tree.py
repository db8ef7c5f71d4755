"""The gallery in the workflow: what renews it, of which scale it is, and Snakemake's own report."""

import pytest
import yaml

pytestmark = pytest.mark.slow

GALLERY = {"figures/index.html", "figures/RESULTS.md"}
CLAIMS = "experiments/gradient_similarity/claims.yaml"


def test_gallery_has_every_figure_with_its_claims(built):
    page, text = ((built.path / name).read_text() for name in sorted(GALLERY, reverse=True))
    for figure in yaml.safe_load((built.path / CLAIMS).read_text())["figures"]:
        assert f'<article id="{figure["stem"]}"' in page
        for claim in figure["claims"]:
            assert claim["statement"] in page and claim["statement"] in text
    assert "| ≈ not resolved | 1 |" in text and "a test needs two seeds or more" in text  # the tree has one seed
    assert "There is no picture" not in page


@pytest.mark.parametrize("file", [CLAIMS, "gallery/page.css", "gallery/claims.py"])
def test_edited_claims_and_page_renew_the_gallery_alone(tree, file):
    with (tree.path / file).open("a") as source:
        source.write("EDITED = True\n" if file.endswith(".py") else "\n")
    made = GALLERY | {"figures/index.record.json"}
    assert tree.pending() == made | {"figures/all", "figures/all.record.json"}


def test_edited_readme_renews_nothing(tree):
    with (tree.path / "gallery/README.md").open("a") as source:
        source.write("\n")
    assert tree.pending() == set()


def test_mistaken_claim_stops_the_gallery_and_is_told(tree):
    tree.edit(CLAIMS, "rule: ostl", "rules: ostl")
    done = tree.run("snakemake", "figures/all")
    assert done.returncode != 0
    told = "ostl_is_exact_in_the_read_out: gradient_similarity.csv has no column rules"
    assert told in done.stdout + done.stderr


def test_gallery_is_that_of_the_scale(tree):
    options = ["--dry-run", "--printshellcmds", "--quiet", "host", "--config", "scale=paper"]
    plan = tree.output_of("snakemake", "figures/index.html", *options)
    assert "python -m gallery --scale paper " in plan and "--figures figures/paper/gradient_similarity.csv" in plan


def test_snakemakes_own_report_has_every_figure(tree):
    tree.output_of("snakemake", "--report", "report.html", "figures/all")
    report = (tree.path / "report.html").read_text()
    for form in ("csv", "png", "svg"):
        assert f"figures/quick/gradient_similarity.{form}" in report
    assert "Table and pictures of one figure" in report
