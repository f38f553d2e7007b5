import { type ReactNode, useState, useSyncExternalStore } from "react";

const NARROW = matchMedia("(max-width: 46rem)");

function watchWidth(changed: () => void): () => void {
  NARROW.addEventListener("change", changed);
  return () => NARROW.removeEventListener("change", changed);
}

/** Folded away on a narrow screen, where the words need the room; open on a wide one. */
export function More({ unfoldedFirst, children }: { unfoldedFirst: boolean; children: ReactNode }) {
  const narrow = useSyncExternalStore(watchWidth, () => NARROW.matches);
  const [unfolded, setUnfolded] = useState(unfoldedFirst);
  return (
    <details
      className="more"
      open={!narrow || unfolded}
      onToggle={({ currentTarget }) => narrow && setUnfolded(currentTarget.open)}
    >
      <summary>More</summary>
      <div>{children}</div>
    </details>
  );
}
