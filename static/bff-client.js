/** @import { Load, Page, Work } from "./bff-client.types" */

const after = (answer) => +(answer?.headers.get("retry-after") ?? 0);

const whole = (said, { url }) => {
  for (const key of ["src", "next", "task", "result"]) said[key] &&= new URL(said[key], url).href;
  return said;
};

const ask = async (url, options, later = 0, form = "application/json", tries = 1) => {
  const { token, signal } = options ?? {};
  for (;;) {
    if (later) await new Promise((resolve) => (signal?.addEventListener("abort", resolve), setTimeout(resolve, later * 1e3 * (1 + Math.random() / 4))));
    signal?.throwIfAborted();
    try {
      const answer = await fetch(url, { signal, headers: { accept: form, ...(token && { authorization: "Bearer " + token }) } });
      if (answer.ok) return answer;
      throw Object.assign(Error((await answer.json().catch(String)).detail), { answer });
    } catch (error) {
      if (++tries > 4 || error.answer?.status < 500) throw error;
      later = after(error.answer) || 2 ** tries;
    }
  }
};

/** @type {Page} */
export async function* page(url, options) {
  const stop = new AbortController();
  options = { ...options, signal: AbortSignal.any([stop.signal, options?.signal ?? stop.signal]) };
  const waiting = new Set();
  try {
    const answer = await ask(url, options, 0, "application/x-ndjson,application/json", 4);
    for await (const said of lines(answer, options.begun)) {
      yield whole(said, answer);
      if (options.follow == false || !said.src || said.task || /click|none/.test(said.load)) continue;
      const slot = load(said, options).finally(() => waiting.delete(slot));
      waiting.add(slot);
      slot.catch(after);
    }
    while (waiting.size) yield await Promise.race(waiting);
  } finally {
    stop.abort();
  }
}

async function* lines(answer, begun) {
  if (!/nd/.test(answer.headers.get("content-type"))) {
    const plan = await answer.json();
    begun?.(plan);
    return yield* Object.values(plan.slots);
  }
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) throw Error("torn");
    const all = (rest + value).split("\n");
    rest = all.pop() ?? "";
    for (const line of all) {
      const said = JSON.parse(line);
      if (said.done) return;
      if (said.outcome) yield said;
      else begun?.(said);
    }
  }
}

/** @type {Load} */
export const load = async ({ slot, as, fragment, parent, src, retry_after }, options) => {
  const found = /** @type {any} */ ({ slot, as, fragment, parent });
  const answer = await ask(src, options, retry_after).catch((error) => {
    options?.signal?.throwIfAborted();
    return error.answer;
  });
  const head = (name) => answer?.headers.get(name);
  found.outcome = answer?.ok ? head("bff-outcome") : "omitted";
  found.reason = head("bff-reason") ?? "connect";
  found.status = answer?.status;
  if (found.outcome == "omitted") return found;
  found.age = head("age") && +head("age");
  found.next = /<(.*?)>; rel="next"/.exec(head("link"))?.[1];
  found.retry_after = after(answer);
  if ((found.task = head("location"))) return whole(found, answer);
  if (/json/.test(head("content-type"))) found.data = await answer.json();
  else found.html = await answer.text();
  return whole(found, answer);
};

/** @type {Work} */
export async function* task(url, options) {
  for (let later = 0, said; !said || /ing$/.test(said.state); ) {
    const answer = await ask(url, options, later);
    yield (said = whole(await answer.json(), answer));
    later = after(answer) || 1;
  }
}
