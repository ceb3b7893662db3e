"""The papers and their training; installed and imported as `gankern.models`."""

if __name__ == "models":
    raise ImportError(
        "this folder is the package gankern.models: write `import gankern.models`, not `import models`, which would "
        "make a second copy of every class (`pip install -e .` installs it)"
    )
