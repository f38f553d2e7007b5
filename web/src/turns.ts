/** A piece of a reply as it came: its text, and how far the face moved it; null where nobody knows. */
export interface Piece {
  text: string;
  movedBits: number | null;
}

export interface Turn {
  id: string;
  role: "user" | "assistant" | "other" | "note";
  pieces: Piece[];
  /** `queued` waits for the link and stands behind all others; `sending` waits for the server's word that it is there. */
  status: "queued" | "sending" | "writing" | "done" | "stopped" | "cut" | "failed";
}

export function textOf(turn: Turn): string {
  return turn.pieces.map((piece) => piece.text).join("");
}

export function stopped(turn: Turn): Turn {
  return turn.status === "writing" ? { ...turn, status: "stopped" } : turn;
}

/** Pieces put together to words, each with the bits of all its pieces. */
export function wordsOf(pieces: Piece[]): Piece[] {
  const words: Piece[] = [];
  for (const piece of pieces) {
    const last = words.at(-1);
    if (last && !/^\s/u.test(piece.text) && !/\s$/u.test(last.text)) {
      last.text += piece.text;
      if (piece.movedBits !== null) last.movedBits = (last.movedBits ?? 0) + piece.movedBits;
    } else {
      words.push({ ...piece });
    }
  }
  return words;
}

/** Bits a word on average, or null where no word has any figure. */
export function meanBits(pieces: Piece[]): number | null {
  const bits = wordsOf(pieces).flatMap((word) => (word.movedBits === null ? [] : [word.movedBits]));
  return bits.length ? bits.reduce((sum, value) => sum + value, 0) / bits.length : null;
}
