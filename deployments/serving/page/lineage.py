"""The page that draws the lineage graph, from documents to posts, with Cytoscape.js from our own static files.

It knows no OpenLineage event; `lineage` reads them.
"""

from typing import Any

import gradio as gr

from deployments.serving.desk import Desk
from deployments.serving.gate import STATIC_PATH
from deployments.serving.lineage import read_graph
from deployments.serving.page.problems import explained

_SCRIPTS = ("cytoscape.min.js", "cytoscape-dagre.min.js", "lineage.js")
_LEGEND = (
    '<div class="gw-legend"><span class="gw-dot gw-dataset"></span> dataset'
    '<span class="gw-dot gw-job"></span> job<span class="gw-dot gw-failed"></span> last run failed</div>'
)
_TEMPLATE = f'{_LEGEND}<div class="gw-graph"></div><div class="gw-detail gw-card"></div>'
# The libraries are fetched when the page is first looked at, in this order: the second extends the first.
_ON_LOAD = """
const base = new URL(document.baseURI).pathname.replace(/\\/$/, "") + "STATIC/";
const fetchScript = (name) => new Promise((done, failed) => {
  const script = document.createElement("script");
  script.src = base + name;
  script.onload = done;
  script.onerror = () => failed(new Error("could not load " + script.src));
  document.head.append(script);
});
const ready = (async () => {
  for (const name of SCRIPTS) await fetchScript(name);
})();
const draw = () => ready.then(() => ghostwriterLineage.draw(element, props.value))
  .catch((error) => { element.textContent = "The graph can't be drawn: " + error.message; });
watch("value", draw);
if (props.value) draw();
""".replace("STATIC", STATIC_PATH).replace("SCRIPTS", str(list(_SCRIPTS)))


def build_lineage_tab(desk: Desk, tab: gr.Tab) -> None:
    """Lay out the page and tie its events; call inside a Tab."""
    with gr.Row(equal_height=True):
        gr.Markdown("What every run of every deployment read and wrote, as it reported it (OpenLineage).")
        refresh = gr.Button("Refresh", size="sm", scale=0, min_width=110, elem_id="gw-refresh-lineage")
    graph = gr.HTML(
        None, html_template=_TEMPLATE, js_on_load=_ON_LOAD, elem_id="gw-lineage", elem_classes="gw-bare"
    )

    def load() -> dict[str, Any]:
        with explained(), desk.sessions() as session:
            return read_graph(session)

    gr.on([tab.select, refresh.click], load, None, graph, api_visibility="private")
