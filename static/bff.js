// Puts each <template for="x"> in place of <?start name="x">…<?end> where browsers do not; then loads pending slots.

/** @param {Node} node */
const marker = (node) => // a comment, or an instruction where parsers know those
  node instanceof Comment ? node.data : node instanceof ProcessingInstruction ? `?${node.target} ${node.data}` : "";

const flush = () => {
  for (const template of document.querySelectorAll("template")) {
    if (!complete && !template.nextSibling) continue; // it may still grow
    const walker = document.createTreeWalker(document, 192);
    while (walker.nextNode()) {
      const start = /** @type {ChildNode} */ (walker.currentNode);
      if (!marker(start).startsWith(`?start name="${template.getAttribute("for")}"`)) continue;
      for (let depth = 1, next; depth && (next = start.nextSibling); next.remove())
        depth += +marker(next).startsWith("?start") - +marker(next).startsWith("?end");
      start.replaceWith(template.content);
      template.remove();
      break;
    }
  }
};

const ready = () => {
  complete = true;
  flush();
  observer.disconnect();
  const raw = { createHTML: (/** @type {string} */ html) => html };
  const policy = /** @type {any} */ (window).trustedTypes?.createPolicy("bff", raw) ?? raw;
  const pending = "bff-fragment[state=pending][src]:not([load=visible],[load=click],[load=none])";
  document.querySelectorAll(pending).forEach(async (slot) => {
    const answer = await fetch(slot.getAttribute("src") ?? "", { cache: "no-cache" });
    if (!answer.ok) return;
    slot.replaceChildren(new Range().createContextualFragment(policy.createHTML(await answer.text())));
    slot.setAttribute("state", answer.headers.get("BFF-Outcome") ?? "fresh");
  });
};

let complete = document.readyState != "loading";
const observer = new MutationObserver(flush);
if (!("htmlFor" in HTMLTemplateElement.prototype)) observer.observe(document, { childList: true, subtree: true });
flush();
complete ? ready() : document.addEventListener("DOMContentLoaded", ready);
