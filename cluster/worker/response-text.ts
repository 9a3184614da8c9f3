/** The beginning of a response as text, bounded in bytes, whatever the response is. */

/** Reads at most `maxBytes`, then gives up the rest. Bytes that are not UTF-8 become U+FFFD. */
export async function readText(body: ReadableStream<Uint8Array> | null, maxBytes: number): Promise<string> {
  if (body === null) return '';
  const decoder = new TextDecoder();
  const reader = body.getReader();
  let text = '';
  let left = maxBytes;
  while (left > 0) {
    const { done, value } = await reader.read();
    if (done) return cutText(text + decoder.decode(), maxBytes);
    const part = value.subarray(0, left);
    text += decoder.decode(part, { stream: true }); // A character cut by the limit is left out.
    left -= part.length;
  }
  reader.cancel().catch(() => undefined); // The connection is of no use any more; its end is not waited for.
  return cutText(text, maxBytes);
}

/** The longest beginning of the text that has at most `maxBytes` in UTF-8. */
export function cutText(text: string, maxBytes: number): string {
  const { read } = new TextEncoder().encodeInto(text, new Uint8Array(maxBytes));
  return read === text.length ? text.toWellFormed() : text.slice(0, read).toWellFormed();
}
