"""`gankern explore`: a page in the browser for trying a model out."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

from .arguments import device_of

EXAMPLES = """examples:
  gankern explore RUN --open
  gankern explore ffhq.pkl --port 8000

The page is for this computer alone: its address has a secret in it, and other machines cannot reach it. From a remote
machine: ssh -L 8000:localhost:8000 HOST, then gankern explore RUN --port 8000 there, and open the address here.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to its parser."""
    parser.set_defaults(run=run)
    parser.epilog = EXAMPLES
    add = parser.add_argument
    add("checkpoint", metavar="CKPT", type=Path, help="a run folder, or any checkpoint, also of other projects")
    add("--port", type=int, default=0, help="of the page; 0 takes a free one [0]")
    add("--open", action="store_true", help="open the page in the browser")
    add("--device", help="cpu, cuda, ... [cuda if there is one]")


def run(args: argparse.Namespace) -> int:
    """Serves the page until Ctrl-C."""
    from .explore_server import Explorer
    from .explore_view import Studio
    from .trained import Trained

    trained = Trained.load(args.checkpoint, device_of(args.device))
    with Explorer(Studio(trained, args.checkpoint.resolve().name), args.port) as server:
        print(f"{server.url}\nopen this address in a browser; Ctrl-C ends it", flush=True)
        if args.open:
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0
