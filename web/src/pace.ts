const RATES_HZ = [15, 10, 6, 3];
const SHARE = 0.6;
const PATIENCE_S = 5;
const REMEMBERED = 15;
const ENOUGH = 5;

/**
 * How many pictures a second this machine can work on, at most 15. The middle one of the last pictures' times counts: the
 * very first picture takes ten times as long as any later one.
 */
export class Pace {
  rateHz = RATES_HZ[0] as number;
  private readonly lastWorkS: number[] = [];
  private lastS = Number.NEGATIVE_INFINITY;
  private loweredS = Number.NEGATIVE_INFINITY;

  get slowed(): boolean {
    return this.rateHz < (RATES_HZ[0] as number);
  }

  /** Whether a picture of that time is due. Cameras come in steps of 33 ms, so half a step early counts. */
  due(timeS: number): boolean {
    if (timeS - this.lastS < 1 / this.rateHz - 0.017) return false;
    this.lastS = timeS;
    return true;
  }

  /** Tell that one picture took `workS`; lowers the rate at once, raises it only after some seconds. */
  took(workS: number, timeS: number): void {
    this.lastWorkS.push(workS);
    if (this.lastWorkS.length > REMEMBERED) this.lastWorkS.shift();
    if (this.lastWorkS.length < ENOUGH) return;
    const middleS = this.lastWorkS.toSorted((a, b) => a - b)[this.lastWorkS.length >> 1] as number;
    const sustained = RATES_HZ.find((rateHz) => rateHz * middleS <= SHARE) ?? 3;
    if (sustained < this.rateHz) this.loweredS = timeS;
    if (sustained < this.rateHz || timeS - this.loweredS > PATIENCE_S) this.rateHz = sustained;
  }
}
