// Draws the lineage graph with Cytoscape.js and the Dagre layout, left to right; a click shows what is known of a node.
// It knows no OpenLineage: it draws the nodes and edges that the page hands it.
window.ghostwriterLineage = (() => {
  const COLOURS = { dataset: "#7c72e0", job: "#12a57f", failed: "#d6454b" };
  const ICONS = {
    dataset: '<ellipse cx="12" cy="6" rx="7" ry="3"/><path d="M5 6v12c0 1.7 3.1 3 7 3s7-1.3 7-3V6M5 12c0 1.7 3.1 3 7 3s7-1.3 7-3"/>',
    job: '<circle cx="12" cy="12" r="3.2"/><circle cx="12" cy="12" r="6.2"/><path d="M12 2.5v3.3M12 18.2v3.3M2.5 12h3.3M18.2 12h3.3M5.3 5.3l2.3 2.3M16.4 16.4l2.3 2.3M5.3 18.7l2.3-2.3M16.4 7.6l2.3-2.3"/>',
  };
  const icon = (kind) => "data:image/svg+xml;utf8," + encodeURIComponent(
    '<svg xmlns="http://www.w3.org/2000/svg" width="24" height="24" viewBox="0 0 24 24" fill="none" stroke="white" ' +
    'stroke-width="1.8" stroke-linecap="round">' + ICONS[kind] + "</svg>");

  function describe(panel, node) {
    panel.replaceChildren();
    const title = document.createElement("h4");
    title.textContent = (node.kind === "job" ? "Job " : "Dataset ") + node.name;
    const list = document.createElement("dl");
    for (const [name, value] of Object.entries(node.details)) {
      const term = document.createElement("dt");
      const text = document.createElement("dd");
      term.textContent = name;
      text.textContent = value;
      list.append(term, text);
    }
    panel.append(title, list);
  }

  function draw(element, graph) {
    const canvas = element.querySelector(".gw-graph");
    const panel = element.querySelector(".gw-detail");
    if (!canvas || !graph) return;
    canvas.cy?.destroy();
    if (!graph.nodes.length) {
      panel.textContent = "No run has reported yet. Lineage appears here a few seconds after the first ingestion.";
      canvas.style.display = "none";
      return;
    }
    canvas.style.display = "";
    panel.textContent = "Click a node to see its last run, times, row counts and version.";
    const style = getComputedStyle(element);
    const ink = style.getPropertyValue("--body-text-color").trim() || "#222";
    const paper = style.getPropertyValue("--block-background-fill").trim() || "#fff";
    const border = style.getPropertyValue("--body-text-color-subdued").trim() || "#aaa";
    const cy = cytoscape({
      container: canvas,
      elements: [
        ...graph.nodes.map((node) => ({ data: { ...node, label: node.name.replace(".", ".\n"), icon: icon(node.kind),
          colour: node.failed ? COLOURS.failed : COLOURS[node.kind] } })),
        ...graph.edges.map((edge) => ({ data: { id: edge.source + "→" + edge.target, ...edge } })),
      ],
      style: [
        { selector: "node", style: {
          shape: "round-rectangle", width: 34, height: 34, "background-color": "data(colour)",
          "background-image": "data(icon)", "background-width": "22px", "background-height": "22px",
          label: "data(label)", color: ink, "font-size": 13, "text-valign": "bottom", "text-margin-y": 6,
          "text-wrap": "wrap", "text-max-width": 170, "text-background-color": paper,
          "text-background-opacity": 0.85, "text-background-padding": 2, "font-family": style.fontFamily } },
        { selector: 'node[kind = "dataset"]', style: { shape: "ellipse", width: 38, height: 38 } },
        { selector: "node:selected", style: { "border-width": 4, "border-color": ink, "border-opacity": 0.55 } },
        { selector: "edge", style: { width: 2, opacity: 0.75, "line-color": border, "target-arrow-color": border,
          "target-arrow-shape": "triangle", "curve-style": "round-taxi", "taxi-direction": "rightward" } },
        { selector: "edge.near", style: { "line-color": COLOURS.job, "target-arrow-color": COLOURS.job, width: 3, opacity: 1 } },
      ],
      layout: { name: "dagre", rankDir: "LR", nodeSep: 72, rankSep: 128, padding: 32 },
      minZoom: 0.2, maxZoom: 2.5,
    });
    cy.on("tap", "node", (event) => {
      cy.edges().removeClass("near");
      event.target.connectedEdges().addClass("near");
      describe(panel, event.target.data());
    });
    if (cy.zoom() > 1.4) { cy.zoom(1.4); cy.center(); }
    canvas.cy = cy;
    element.fit = () => { cy.resize(); cy.fit(undefined, 32); };
  }
  return { draw };
})();
