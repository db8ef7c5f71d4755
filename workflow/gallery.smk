"""The page of all figures with their claims, and the claims as a text. They exist only for the scale that was made last."""

GALLERY = ["figures/index.html", "figures/RESULTS.md"]


# Dates, commits and run times are taken from the records next to the results, which change only when results are made.
rule gallery:
    input:
        "requirements.lock",
        sorted(str(file) for file in Path("gallery").iterdir() if file.suffix not in ("", ".md")),
        claims=sorted(map(str, Path("experiments").glob("*/claims.yaml"))),
        results=[file for file in RESULTS if file.endswith(".json")],
        figures=FIGURES,
    output:
        page=GALLERY[0],
        text=GALLERY[1],
    log:
        "logs/gallery.log",
    params:
        scale=SCALE,
    shell:
        "workflow/logged {log} python -m gallery --scale {params.scale} --claims {input.claims}"
        " --results {input.results} --figures {input.figures} --page {output.page} --text {output.text}"
