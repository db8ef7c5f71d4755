"""The page of all figures with their claims, and the claims as a text. The one that exists is that of the last scale."""

GALLERY = ["figures/index.html", "figures/RESULTS.md"]


# Their dates, commits and run times are those of the records beside the results, which only runs that make results change.
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
