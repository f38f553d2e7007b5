/**
 * When each character of a text was typed, one time for each code point, from the states of an input field.
 * What stands before and after a change keeps its times.
 */
export class TypedText {
  private chars: string[] = [];
  private times: number[] = [];

  get text(): string {
    return this.chars.join("");
  }

  change(text: string, timeS: number): void {
    const next = Array.from(text.toWellFormed());
    const shorter = Math.min(next.length, this.chars.length);
    let before = 0;
    while (before < shorter && next[before] === this.chars[before]) before++;
    let after = 0;
    while (after < shorter - before && next[next.length - 1 - after] === this.chars[this.chars.length - 1 - after])
      after++;
    const added = new Array<number>(next.length - before - after).fill(timeS);
    this.times = [...this.times.slice(0, before), ...added, ...this.times.slice(this.times.length - after)];
    this.chars = next;
  }

  /** The text without the white space around it, with its times; the field counts as empty afterwards. */
  take(): { text: string; charTimes: number[] } {
    const isBlank = (char: string | undefined) => char !== undefined && /^\s$/u.test(char);
    let start = 0;
    let end = this.chars.length;
    while (isBlank(this.chars[start])) start++;
    while (end > start && isBlank(this.chars[end - 1])) end--;
    const taken = { text: this.chars.slice(start, end).join(""), charTimes: this.times.slice(start, end) };
    this.chars = [];
    this.times = [];
    return taken;
  }
}
