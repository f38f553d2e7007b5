import { useCallback, useState } from "react";

export interface Work {
  /** What the server is doing for the person, in words or by its name; one thing at a time. */
  busy: string | null;
  error: string | null;
  load: () => Promise<void>;
  act: (what: string, work: Promise<unknown>) => void;
}

/** What a sheet asks of the server: `fetched` brings what it shows, anew after everything that was done. */
export function useWork(fetched: () => Promise<void>): Work {
  const [busy, setBusy] = useState<string | null>(null);
  const [error, setError] = useState<string | null>(null);
  const load = useCallback(() => fetched().catch((failure: Error) => setError(failure.message)), [fetched]);
  const act = (what: string, work: Promise<unknown>) => {
    setBusy(what);
    setError(null);
    void work.then(load, (failure: Error) => setError(failure.message)).finally(() => setBusy(null));
  };
  return { busy, error, load, act };
}
