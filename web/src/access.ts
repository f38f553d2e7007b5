/** The access token of a server that is open to the network: taken out of the address once, kept for this tab. */
const KEY = "nvllm.token";

function takeToken(): string | null {
  const address = new URL(location.href);
  const given = address.searchParams.get("token");
  if (given !== null) {
    sessionStorage.setItem(KEY, given);
    address.searchParams.delete("token");
    history.replaceState(null, "", address);
  }
  return sessionStorage.getItem(KEY);
}

const token = takeToken();

export function authorised(): HeadersInit {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/** `path` on this server, for places where no header can be sent. */
export function withToken(path: string): string {
  const address = new URL(path, location.origin);
  if (token) address.searchParams.set("token", token);
  return address.pathname + address.search;
}
