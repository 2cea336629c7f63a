"""Runs notebooks from top to bottom, each in a folder of its own; an error in a cell is an error here."""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

for path in map(Path, sys.argv[1:]):
    notebook = nbformat.read(path, as_version=4)
    stored = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.outputs]
    if stored:
        sys.exit(f"{path}: expected a notebook without stored outputs, found {len(stored)} cells with some")
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    shown = sum(len(cell.outputs) for cell in notebook.cells if cell.cell_type == "code")
    print(f"{path.name}: {shown} outputs")
