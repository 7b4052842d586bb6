// What TypeScript's DOM does not know yet, or is stricter about than slots are: what a query finds may be any element.
interface Window {
  trustedTypes?: {
    createPolicy(name: string, rules: { createHTML(html: string): string }): { createHTML(html: string): any };
  };
}
interface HTMLElement {
  startViewTransition?(change: () => unknown): { ready: Promise<void>; updateCallbackDone: Promise<void> };
}
interface ParentNode {
  querySelector(selectors: string): any;
  querySelectorAll(selectors: string): NodeListOf<any>;
}
interface Element {
  closest(selectors: string): any;
}
interface Document {
  readonly activeElement: any;
  createTreeWalker(root: Node, what: number): { nextNode(): any; currentNode: any };
}
declare function addEventListener(type: "click" | "input", listener: (event: any) => void, capture?: boolean): void;
