"""The page of all figures with their claims, the claims as a text, and the replication report, for the scale made last."""


# Dates, commits and run times are taken from the records next to the results.
rule gallery:
    input:
        to_make([*PIPELINE.results.values(), *PIPELINE.drawn]),
    output:
        page=report(str(PIPELINE.page.files[0]), category="all figures"),
        text=str(PIPELINE.page.files[1]),
        replication=str(PIPELINE.page.files[2]),
        record=made_record(PIPELINE.page),
    log:
        "logs/gallery.log",
    params:
        options=OPTIONS,
        made_from=lambda wildcards: PIPELINE.page.digest(),
    shell:
        "workflow/logged {log} python -m gallery {params.options}"
