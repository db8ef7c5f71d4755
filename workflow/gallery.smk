"""The page of all figures with their claims, the claims as a text, the replication report and the article, for the scale made
last."""


# Dates, commits and run times are taken from the records next to the results.
rule gallery:
    input:
        lambda wildcards: stale_inputs(PLAN.page, [*PLAN.results.values(), *PLAN.drawn]),
    output:
        page=report(str(PLAN.page.files[0]), category="all figures"),
        text=str(PLAN.page.files[1]),
        replication=str(PLAN.page.files[2]),
        record=str(PLAN.page.record),
    log:
        "logs/gallery.log",
    params:
        options=OPTIONS,
    shell:
        "workflow/logged {log} python -m gallery {params.options}"


# Its numbers are those of the page. Snakemake makes it again if the page, the text or the references are newer.
rule article:
    input:
        records([*PLAN.drawn, PLAN.page]),
        "article/article.typ",
        "article/fills.typ",
        "gallery/article.py",
        "gallery/article_tables.yaml",
        "docs/references.bib",
        "packages/slax-rules/src/slax_rules/rules.bib",
    output:
        "article.pdf",
    log:
        "logs/article.log",
    params:
        options=OPTIONS,
    shell:
        "workflow/logged {log} python -m gallery.article {params.options}"
