/** What a measurement gives, and how it is shown: medians with the least and the most of all runs. */

/** Over the runs of one figure. */
export type Spread = {
  readonly median: number;
  readonly least: number;
  readonly most: number;
  readonly runs: readonly number[];
};

/** What a figure shall reach; one that falls short is told, and is no failure. */
export type Target = { readonly figure: string; readonly atLeast?: number; readonly atMost?: number };

/** Whether the result itself is right; one that is not makes the run fail. */
export type Check = { readonly name: string; readonly passed: boolean; readonly detail: string };

export type Measurement = {
  readonly name: string;
  readonly settings: Readonly<Record<string, string | number | boolean>>;
  readonly figures: Readonly<Record<string, Spread | number>>;
  readonly targets: readonly Target[];
  readonly checks: readonly Check[];
};

export function spreadOf(runs: readonly number[]): Spread {
  const sorted = [...runs].sort((left, right) => left - right);
  const middle = sorted.length / 2;
  const upper = sorted[Math.floor(middle)] ?? Number.NaN;
  const median = Number.isInteger(middle) ? ((sorted[middle - 1] ?? Number.NaN) + upper) / 2 : upper;
  return { median, least: sorted[0] ?? Number.NaN, most: sorted.at(-1) ?? Number.NaN, runs };
}

export function medianOf(figure: Spread | number): number {
  return typeof figure === 'number' ? figure : figure.median;
}

/** Whether the median reaches the target. */
export function reaches({ figures }: Measurement, { figure, atLeast = -Infinity, atMost = Infinity }: Target): boolean {
  const value = medianOf(figures[figure] ?? Number.NaN);
  return value >= atLeast && value <= atMost;
}

/** The measurement as lines for people. */
export function show(measurement: Measurement): string {
  const { name, settings, figures, targets, checks } = measurement;
  const lines = [name, ...Object.entries(settings).map(([key, value]) => `  ${key}: ${value}`), ''];
  for (const [key, figure] of Object.entries(figures)) lines.push(`  ${key.padEnd(36)} ${showFigure(figure)}`);
  for (const target of targets) lines.push(`  ${showTarget(measurement, target)}`);
  for (const check of checks) lines.push(`  ${check.passed ? 'right' : 'WRONG'}: ${check.name} (${check.detail})`);
  return `${lines.join('\n')}\n`;
}

function showFigure(figure: Spread | number): string {
  if (typeof figure === 'number') return showNumber(figure).padStart(12);
  const { median, least, most, runs } = figure;
  return `${showNumber(median).padStart(12)}   (${showNumber(least)} .. ${showNumber(most)}, ${runs.length} runs)`;
}

function showNumber(value: number): string {
  const decimals = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 3;
  return value.toLocaleString('en', { maximumFractionDigits: decimals });
}

function showTarget(measurement: Measurement, target: Target): string {
  const { figure, atLeast, atMost } = target;
  const wanted =
    atLeast === undefined ? `at most ${showNumber(atMost ?? Number.NaN)}` : `at least ${showNumber(atLeast)}`;
  const part = medianOf(measurement.figures[figure] ?? Number.NaN) / (atLeast ?? atMost ?? Number.NaN);
  return `${reaches(measurement, target) ? 'reached' : 'SHORT'}: ${figure} ${wanted} (${Math.round(part * 100)} % of it)`;
}
