"""The workflow of all figures. It is in workflow/, where catalogs look for it; `snakemake` finds it from here."""


include: "workflow/Snakefile"
