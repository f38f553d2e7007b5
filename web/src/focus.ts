import { useEffect, useRef } from "react";

/** Whether it is on the screen; the conversation goes on unseen while another place is shown. */
export function isShown(element: Element): boolean {
  return element.checkVisibility({ visibilityProperty: true });
}

/** Puts the focus at the beginning of what is shown, for keyboards and screen readers to go on from there. */
export function focusContent(): void {
  const main = [...document.querySelectorAll("main")].find(isShown);
  if (!main) return;
  main.tabIndex = -1;
  main.focus({ preventScroll: true });
}

/** Once `shown` has changed: where what had the focus went with it, the content has it. */
export function useFocusKept(shown: unknown): void {
  const before = useRef(shown);
  useEffect(() => {
    const focused = document.activeElement;
    if (before.current !== shown && (!focused || focused === document.body || !isShown(focused))) focusContent();
    before.current = shown;
  }, [shown]);
}
