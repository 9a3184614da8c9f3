/**
 * The wait that an answer's `Retry-After` asks for, in milliseconds; 0 where it asks for none or cannot be read. A date is taken
 * against the answer's own `Date`, so that the two clocks need not agree.
 */
export function retryAfterMs(headers: Headers): number {
  const value = headers.get('retry-after')?.trim() ?? '';
  if (/^\d{1,9}$/.test(value)) return Number(value) * 1_000;
  const waitMs = Date.parse(value) - Date.parse(headers.get('date') ?? '');
  return Number.isFinite(waitMs) && waitMs > 0 ? waitMs : 0;
}
