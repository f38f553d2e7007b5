const RATES_HZ = [15, 10, 6, 3];
const SHARE = 0.6;
const PATIENCE_S = 5;

/** How many pictures a second this machine can work on, from what the last ones took; at most 15. */
export class Pace {
  rateHz = RATES_HZ[0] as number;
  private meanS = 0;
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
    this.meanS = this.meanS ? 0.9 * this.meanS + 0.1 * workS : workS;
    const sustained = RATES_HZ.find((rateHz) => rateHz * this.meanS <= SHARE) ?? 3;
    if (sustained < this.rateHz) this.loweredS = timeS;
    if (sustained < this.rateHz || timeS - this.loweredS > PATIENCE_S) this.rateHz = sustained;
  }
}
