"""Runs all cells of a notebook in a folder, and prints the text of their outputs.

    python3 run_notebook.py NOTEBOOK FOLDER

Without the packages that the notebook needs, it names them and ends with code 0.
"""

import importlib.util
import sys

NEEDED = ["nbclient", "nbformat", "ipykernel", "pandas", "pyarrow", "matplotlib"]


def main():
    notebook, folder = sys.argv[1:3]
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f"left out: the notebook needs {', '.join(missing)}")
        return
    import nbclient
    import nbformat

    cells = nbformat.read(notebook, as_version=4)
    nbformat.validate(cells)
    nbclient.NotebookClient(cells, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    code = [cell for cell in cells.cells if cell.cell_type == "code"]
    for output in (output for cell in code for output in cell.outputs):
        print(output.get("text") or output.get("data", {}).get("text/plain", ""))
    print(f"{len(code)} cells were run")


main()
