// The types of bff-client.js: what the JSON forms of pages hold (docs/app-developer.md).

/** What a slot became. Unknown keys may come. */
export interface Slot {
  /** Its place in this answer, such as "s2". */
  slot: string;
  /** Its key on the page: hold on to this one. */
  as: string;
  /** "<context>/<fragment>" */
  fragment: string;
  outcome: "fresh" | "stale" | "fallback" | "pending" | "omitted";
  reason: string;
  /** Its service's. */
  status?: number;
  /** Seconds, where it is a copy. */
  age?: number;
  /** When its source says that it was so; RFC 3339. */
  as_of?: string;
  /** Milliseconds. */
  ms?: number;
  /** Of a fragment that answers HTML. */
  html?: string;
  /** Of a fragment that answers JSON. */
  data?: any;
  assets?: { css?: string[]; js?: string[] };
  /** Where a pending slot can be asked for: `load`. */
  src?: string;
  /** When the page means that to happen. */
  load?: "client" | "visible" | "click" | "none";
  /** Where slow work can be followed: `task`. */
  task?: string;
  /** The next page of a list: `load({ ...slot, src: slot.next })`. */
  next?: string;
  tags?: string[];
  /** Seconds. */
  retry_after?: number;
  /** The `slot` that it is embedded in. */
  parent?: string;
  /** A stale copy: the fresh one follows. */
  final?: false;
}

/** What a page is going to hold. */
export interface Plan {
  page: string;
  /** Whether the gateway knows who is asking. */
  principal: boolean;
  slots: { slot: string; as: string; fragment: string; params?: Record<string, unknown> }[];
}

export interface Options {
  /** Sent as `Authorization: Bearer …`. */
  token?: string;
  signal?: AbortSignal;
  /** Whether to ask for what the page leaves to its client; true. */
  follow?: boolean;
  /** Called once, before the first slot. */
  begun?: (plan: Plan) => void;
}

export interface Task {
  id: string;
  state: "pending" | "running" | "succeeded" | "failed" | "canceled";
  /** From 0 to 1. */
  progress: number | null;
  /** Where the result can be fetched. */
  result: string | null;
}

/** What is thrown where the gateway says that something is wrong: `message` is its problem's detail. */
export interface Problem extends Error {
  answer: Response;
}

/** Each slot as it ends, then what the page leaves to its client. Leaving the loop ends what is under way. */
export type Page = (url: string | URL, options?: Options) => AsyncGenerator<Slot, void, void>;
/** One slot by its `src`; where nothing is to be had it is `omitted`. */
export type Load = (slot: Slot, options?: Options) => Promise<Slot>;
/** How far slow work is, until it has ended. */
export type Work = (url: string | URL, options?: Options) => AsyncGenerator<Task, void, void>;
