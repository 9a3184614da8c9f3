/**
 * A reason to stop that a person can act on. Scripts print its message alone; every other error is a bug and keeps its
 * stack.
 */
export class Refusal extends Error {}

/**
 * Runs a script's body and turns what it throws into an exit code.
 * @param {() => Promise<void>} body
 */
export async function runScript(body) {
  try {
    await body();
  } catch (error) {
    console.error(error instanceof Refusal ? `\n${error.message}\n` : error);
    process.exitCode = 1;
  }
}
