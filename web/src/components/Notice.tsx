import type { ReactNode } from "react";

/** What went wrong, in a line that screen readers say at once; nothing where there is nothing to say. */
export function Notice({ children }: { children: ReactNode }) {
  if (!children) return null;
  return (
    <p className="notice" role="alert">
      {children}
    </p>
  );
}
