"""The page of all figures with their claims, and the claims as a text. They exist only for the scale that was made last."""

GALLERY = ["figures/index.html", "figures/RESULTS.md"]


RESULTS_SHOWN = [file for file in RESULTS if file.endswith(".json")]
CLAIMS = sorted(map(str, Path("experiments").glob("*/claims.yaml")))


def page():
    return page_product(
        *map(Path, GALLERY), SCALE, *(map(Path, files) for files in (CLAIMS, RESULTS_SHOWN, FIGURES)), SOURCES
    )


# Dates, commits and run times are taken from the certificates next to the results.
rule gallery:
    input:
        needs([*RESULTS_SHOWN, *FIGURES], "gallery"),
    output:
        page=GALLERY[0],
        text=GALLERY[1],
        certificate="figures/index" + CERTIFICATE,
    log:
        "logs/gallery.log",
    params:
        scale=SCALE,
        claims=CLAIMS,
        results=RESULTS_SHOWN,
        figures=FIGURES,
    shell:
        "workflow/logged {log} python -m gallery --scale {params.scale} --claims {params.claims}"
        " --results {params.results} --figures {params.figures} --page {output.page} --text {output.text}"
