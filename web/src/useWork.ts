import { useCallback, useEffect, useState } from "react";
import { useFocusKept } from "./focus";

export interface Work {
  /** What the server is doing for the person, in words or by its name; one thing at a time. */
  busy: string | null;
  error: string | null;
  load: () => Promise<boolean>;
  act: (what: string, work: Promise<unknown>) => void;
}

const TRY_AGAIN_MS = 3000;

/**
 * What a sheet asks of the server: `fetched` brings what it shows, anew after everything that was done or refused, and
 * until it comes where the server is not reached.
 */
export function useWork(fetched: () => Promise<void>): Work {
  const [busy, setBusy] = useState<string | null>(null);
  const [notLoaded, setNotLoaded] = useState<string | null>(null);
  const [notDone, setNotDone] = useState<string | null>(null);
  const load = useCallback(async () => {
    const failed = await fetched().then(
      () => null,
      (failure: Error) => failure.message,
    );
    setNotLoaded(failed);
    return failed === null;
  }, [fetched]);
  useEffect(() => {
    if (notLoaded === null) return;
    const timer = setInterval(() => void load(), TRY_AGAIN_MS);
    return () => clearInterval(timer);
  }, [notLoaded, load]);
  const act = async (what: string, work: Promise<unknown>) => {
    setBusy(what);
    setNotDone(null);
    const refused = await work.then(
      () => null,
      (failure: Error) => failure.message,
    );
    if (await load()) setNotDone(refused); // else that the server is not reached says it all
    setBusy(null);
  };
  useFocusKept(busy);
  return { busy, error: notLoaded ?? notDone, load, act };
}
