"""A notebook as a page: its text, its code, and what it showed when it was last run. Needs no Jupyter."""

import json


def page_of_notebook(path):
    """Markdown of the cells, with their pictures inside."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join(part for cell in cells for part in _parts(cell)) + "\n"


def _parts(cell):
    text = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [text]
    return [f"```python\n{text}\n```", *(_shown(output) for output in cell["outputs"])]


def _shown(output):
    """The richest that a page can show of one output."""
    if output["output_type"] == "stream":
        return f"```text\n{''.join(output['text'])}```"
    rich = output["data"]
    if "image/png" in rich:
        inside = f'<img alt="" src="data:image/png;base64,{_text(rich, "image/png").strip()}">'
    elif "text/html" in rich:
        inside = _text(rich, "text/html").strip()
    else:
        return f"```text\n{_text(rich, 'text/plain')}\n```"
    return f'<div class="output">\n{inside}\n</div>'


def _text(rich, kind):
    return "".join(rich[kind])
