const STILL_AFTER_ASKED = 3;

/** Whether a camera gives no pictures, found by asking once a second how many there were. */
export class Stillness {
  private frames = 0;
  private asked = 0;

  /** `looked` is whether the picture is on the screen: of one that nobody looks at, browsers count no frames. */
  ask(frames: number, looked: boolean): boolean {
    this.asked = looked && frames <= this.frames ? this.asked + 1 : 0;
    this.frames = frames;
    return this.asked >= STILL_AFTER_ASKED;
  }

  /** The camera itself says that after so many, and one that may be on its way, there are none for now. */
  muted(frames: number): void {
    this.frames = frames + 1;
    this.asked = STILL_AFTER_ASKED;
  }
}
