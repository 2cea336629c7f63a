"use strict";
// Tells the numbers under the pointer; all that is drawn is there without it.
(() => {
  const tip = document.body.appendChild(document.createElement("div"));
  tip.className = "tip";
  tip.hidden = true;

  // Beside the pointer, and inside the window.
  const place = (event) => {
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const left = event.clientX + 16 + width > innerWidth ? event.clientX - 12 - width : event.clientX + 16;
    const top = event.clientY + 16 + height > innerHeight ? event.clientY - 12 - height : event.clientY + 16;
    tip.style.left = `${Math.max(4, left) + scrollX}px`;
    tip.style.top = `${Math.max(4, top) + scrollY}px`;
  };
  const hide = () => { tip.hidden = true; };

  const entry = (line, text) => {
    const row = document.createElement("div");
    const swatch = row.appendChild(document.createElement("span"));
    swatch.className = `swatch ${line.ink}`;
    if (line.style) { swatch.style.cssText = line.style; }
    row.appendChild(document.createElement("span")).textContent = line.label;
    row.appendChild(document.createElement("span")).textContent = text;
    return row;
  };
  const number = (v, unit) => {
    if (unit === "%") { return `${(100 * v).toPrecision(4)} %`; }
    return v !== 0 && (Math.abs(v) >= 1e5 || 1e-3 > Math.abs(v)) ? v.toExponential(3) : String(Number(v.toPrecision(4)));
  };
  const nearest = (points, x) => points.reduce((a, b) => (Math.abs(a[0] - x) > Math.abs(b[0] - x) ? b : a));

  for (const svg of document.querySelectorAll("svg[data-chart]")) {
    const chart = JSON.parse(svg.dataset.chart);
    const [left, top, width, height] = chart.frame;
    const cursor = svg.appendChild(document.createElementNS(svg.namespaceURI, "line"));
    cursor.setAttribute("class", "cursor");
    cursor.setAttribute("y1", top);
    cursor.setAttribute("y2", top + height);
    cursor.style.display = "none";
    svg.addEventListener("pointermove", (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const share = Math.min(1, Math.max(0, (at.x - left) / width));
      const wanted = chart.x[0] + share * (chart.x[1] - chart.x[0]);
      const x = nearest(chart.lines.map((line) => nearest(line.points, wanted)), wanted)[0];
      const px = left + width * (x - chart.x[0]) / (chart.x[1] - chart.x[0]);
      cursor.setAttribute("x1", px);
      cursor.setAttribute("x2", px);
      cursor.style.display = "";
      // Of many lines those beside the pointer.
      const high = (y) => (chart.log ? Math.log(y / chart.y[0]) / Math.log(chart.y[1] / chart.y[0]) : (y - chart.y[0]) / (chart.y[1] - chart.y[0]));
      const distance = (y) => Math.abs(top + height * (1 - high(y)) - at.y);
      const here = chart.lines.map((line) => ({ line, y: nearest(line.points, x)[1] }));
      here.sort((a, b) => distance(a.y) - distance(b.y)).splice(10);
      here.sort((a, b) => b.y - a.y);
      const head = document.createElement("b");
      head.textContent = `${chart.axis} ${x}`;
      tip.replaceChildren(head, ...here.map(({ line, y }) => entry(line, number(y, chart.unit))));
      place(event);
    });
    svg.addEventListener("pointerleave", () => { cursor.style.display = "none"; hide(); });
  }

  // Titles come at once, in the same form.
  for (const cell of document.querySelectorAll(".matrix .cell")) {
    const title = cell.querySelector("title");
    const text = title.textContent;
    title.remove();
    cell.addEventListener("pointermove", (event) => { tip.textContent = text; place(event); });
    cell.addEventListener("pointerleave", hide);
  }

  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) { details.open = true; }
  });
})();
