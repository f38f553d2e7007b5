/** One clock for frames, keys and pings: seconds since the page was opened, never set back. */
export function nowS(): number {
  return performance.now() / 1000;
}

/** An event's own time stamp is on the same clock, and earlier than the moment in which it is handled. */
export function eventTimeS(event: { timeStamp: number }): number {
  return event.timeStamp > 0 ? event.timeStamp / 1000 : nowS();
}
