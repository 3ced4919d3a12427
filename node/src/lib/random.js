/** Random numbers that a seed makes repeatable. */

export class Random {
  /** seed: a whole number; without one, other numbers each time. */
  constructor(seed = Math.floor(Math.random() * 2 ** 32)) {
    this.state = seed >>> 0;
  }

  /** At least 0, less than 1 (mulberry32). */
  next() {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.state ^ (this.state >>> 15), this.state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  uniform(least, most) {
    return least + (most - least) * this.next();
  }

  /** A whole number from least to most. */
  integer(least, most) {
    return least + Math.floor(this.next() * (most - least + 1));
  }

  choice(values) {
    return values[this.integer(0, values.length - 1)];
  }

  /** Normally distributed. */
  normal(mean, deviation) {
    return mean + deviation * Math.sqrt(-2 * Math.log(1 - this.next())) * Math.cos(2 * Math.PI * this.next());
  }
}
