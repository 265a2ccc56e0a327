// One event stream of the server, opened again whenever it ends. Runs in a SharedWorker or in a page.

const SILENT_MS = 12_000; // The server speaks every 5 s.
const LONGEST_WAIT_MS = 8_000;
const KINDS = ["overview", "sample", "candle"];

export class Feed {
  #emit;
  #base;
  #source = null;
  #wanted = null; // The series to open with; null: stay closed.
  #opened = "";
  #failures = 0;
  #retry = 0;
  #heard = 0;
  #watchdog = 0;
  #isGone = false;

  /** `emit` gets {kind, data}: an event with its JSON text, or "gone", or "back". */
  constructor(base, emit) {
    this.#base = base;
    this.#emit = emit;
  }

  /** Open the stream with these series, if it is not open with them. */
  open(series) {
    const wanted = [...series].sort();
    this.#wanted = wanted;
    if (this.#source && this.#opened === wanted.join(" ")) return;
    if (this.#retry && this.#isGone) return; // The next attempt takes the new series.
    this.#connect();
  }

  /** Close the stream: nobody looks. */
  close() {
    this.#wanted = null;
    this.#end();
    clearTimeout(this.#retry);
    this.#retry = 0;
    this.#failures = 0;
    this.#isGone = false;
  }

  #connect() {
    this.#end();
    clearTimeout(this.#retry);
    this.#retry = 0;
    const url = new URL("stream", this.#base);
    for (const one of this.#wanted) url.searchParams.append("series", one);
    this.#opened = this.#wanted.join(" ");
    const source = new EventSource(url);
    this.#source = source;
    this.#heard = Date.now();
    source.onerror = () => this.#fail(source);
    for (const kind of KINDS) {
      source.addEventListener(kind, (event) => {
        this.#heard = Date.now();
        this.#failures = 0;
        if (this.#isGone) {
          this.#isGone = false;
          this.#emit({ kind: "back", data: null });
        }
        this.#emit({ kind, data: event.data });
      });
    }
    this.#watchdog = setInterval(() => {
      if (Date.now() - this.#heard > SILENT_MS) this.#fail(source);
    }, 1000);
  }

  #fail(source) {
    if (source !== this.#source) return;
    this.#end();
    if (!this.#isGone) {
      this.#isGone = true;
      this.#emit({ kind: "gone", data: null });
    }
    const wait = Math.min(LONGEST_WAIT_MS, 500 * 2 ** this.#failures) * (0.75 + Math.random() / 2);
    this.#failures += 1;
    this.#retry = setTimeout(() => {
      this.#retry = 0;
      if (this.#wanted) this.#connect();
    }, wait);
  }

  #end() {
    clearInterval(this.#watchdog);
    this.#source?.close();
    this.#source = null;
    this.#opened = "";
  }
}
