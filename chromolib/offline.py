"""A notebook as a page that asks the network for nothing: formulas are MathML, which browsers draw themselves."""

from pathlib import Path

import jinja2
from docutils.utils.math.latex2mathml import tex2mathml
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath


class _Renderer(IPythonRenderer):
    def block_math(self, body):
        return tex2mathml(body, as_block=True)

    def inline_math(self, body):
        return tex2mathml(body, as_block=False)


class _Exporter(HTMLExporter):
    @jinja2.pass_context
    def markdown2html(self, context, source):
        """As nbconvert's, with formulas in MathML."""
        attached = context.get("cell", {}).get("attachments", {})
        return MarkdownWithMath(renderer=_Renderer(escape=False, attachments=attached)).render(source)


def html(notebook):
    """The notebook, a path, as one HTML page (text), by notebook.html.j2."""
    exporter = _Exporter(template_file=str(Path(__file__).with_name("notebook.html.j2")))
    return exporter.from_filename(str(notebook))[0]
