import { useEffect, useRef } from "react";

/** Puts the focus at the beginning of what is shown, for keyboards and screen readers to go on from there. */
export function focusContent(): void {
  const main = [...document.querySelectorAll("main")].find((place) => place.checkVisibility());
  if (!main) return;
  main.tabIndex = -1;
  main.focus({ preventScroll: true });
}

/** Once `shown` has changed: where what had the focus went with it, the content has it. */
export function useFocusKept(shown: unknown): void {
  const before = useRef(shown);
  useEffect(() => {
    const focused = document.activeElement;
    if (before.current !== shown && (focused === document.body || !focused?.checkVisibility())) focusContent();
    before.current = shown;
  }, [shown]);
}
