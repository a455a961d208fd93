// Keeps a list of events up to date: new rows come as server-sent events.
"use strict";
for (const table of document.querySelectorAll("table[data-live]")) {
  const body = table.tBodies[0];
  const source = new EventSource(table.dataset.live);
  source.onmessage = (m) => {
    const made = document.createElement("template");
    made.innerHTML = "<table><tbody>" + m.data + "</tbody></table>";
    const row = made.content.querySelector("tr");
    row.classList.add("fresh");
    body.prepend(row);
    while (body.rows.length > 200) body.lastElementChild.remove();
  };
}
