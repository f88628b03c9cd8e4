// @ts-check
/**
 * When to look for challenges: at each event of the factor's stream, or at intervals if there is no stream.
 *
 * The stream carries no content. An event only means that the list has changed, so the list is read again. The page reads
 * streams with `fetch`, because an `EventSource` cannot send the header `Authorization`.
 */

/** Intervals without a stream, in milliseconds: the shortest one for a minute after a change, then longer ones. */
const SHORT_POLL_MS = 2_000;
const LONG_POLL_MS = 10_000;
const SHORT_POLLS = 30;

/** How long to poll until the stream is tried again, in milliseconds, if the server has none. */
const NO_STREAM_MS = 600_000;

/** Limits of the wait that `Retry-After` may demand, in milliseconds. */
const MIN_RETRY_MS = 5_000;
const MAX_RETRY_MS = 120_000;

/** Wait before a new connection, in milliseconds, unless the stream names another one. */
const RECONNECT_MS = 1_000;

/** A stream without a byte for this long, in milliseconds, is broken: the server sends a comment every 15 seconds. */
const SILENCE_MS = 45_000;

/**
 * An event of a stream.
 * @typedef {{ type: string, data: string }} StreamEvent
 */

/** Parses a stream of events (https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation). */
export class EventParser {
    #rest = '';
    #type = '';
    /** @type {string[]} */
    #data = [];

    /** Wait before a new connection, in milliseconds, if the stream has named one. */
    retry = 0;

    /**
     * Returns the events that are complete with this piece of the stream.
     * @param {string} piece
     * @returns {StreamEvent[]}
     */
    push(piece) {
        // A carriage return at the end may be the first half of a line break.
        const text = this.#rest + piece;
        const isSplit = text.endsWith('\r');
        const lines = (isSplit ? text.slice(0, -1) : text).split(/\r\n|\r|\n/);
        this.#rest = (lines.pop() ?? '') + (isSplit ? '\r' : '');
        return lines.flatMap((line) => this.#readLine(line));
    }

    /**
     * @param {string} line
     * @returns {StreamEvent[]}
     */
    #readLine(line) {
        if (line === '') {
            const event = { type: this.#type || 'message', data: this.#data.join('\n') };
            const isEvent = this.#data.length > 0;
            this.#type = '';
            this.#data = [];
            return isEvent ? [event] : [];
        }
        const [, name, value] = /** @type {RegExpMatchArray} */ (line.match(/^([^:]*)(?:: ?)?(.*)$/s));
        if (name === 'event') {
            this.#type = value;
        } else if (name === 'data') {
            this.#data.push(value);
        } else if (name === 'retry' && /^\d+$/.test(value)) {
            this.retry = Number(value);
        }
        return [];
    }
}

/**
 * Why a stream is over, or was not opened.
 * @typedef {'ended' | 'broken' | 'unauthorized' | 'missing' | 'busy'} StreamEnd
 */

/**
 * What a listener needs.
 * @typedef {object} Source
 * @property {(signal: AbortSignal) => Promise<Response>} [open] opens the stream; without it, the listener polls
 * @property {() => Promise<boolean>} look reads the list, and returns whether it has changed. Does not fail
 */

/**
 * Looks for challenges until the signal is aborted.
 * @param {Source} source
 * @param {AbortSignal} signal
 */
export async function listen(source, signal) {
    let refusals = 0;
    while (!signal.aborted) {
        if (!source.open) {
            await poll(source, Infinity, signal);
            return;
        }
        const { end, wait } = await follow(source.open, source.look, signal);
        refusals = end === 'unauthorized' ? refusals + 1 : 0;
        if (end === 'ended') {
            await pause(wait, signal);
        } else if (end === 'unauthorized' && refusals < 2) {
            // This request corrects the clock, or finds that the factor was removed.
            await source.look();
            await pause(wait, signal);
        } else if (end === 'broken') {
            await poll(source, MIN_RETRY_MS, signal);
        } else {
            await poll(source, end === 'busy' ? wait : NO_STREAM_MS, signal);
        }
    }
}

/**
 * Follows one stream until it ends.
 * @param {(signal: AbortSignal) => Promise<Response>} open
 * @param {() => Promise<boolean>} look
 * @param {AbortSignal} signal
 * @returns {Promise<{ end: StreamEnd, wait: number }>} also the wait before the next attempt, in milliseconds
 */
async function follow(open, look, signal) {
    const silence = new Silence(signal);
    let wait = RECONNECT_MS;
    try {
        const response = await open(silence.signal);
        const isStream = response.headers.get('Content-Type')?.startsWith('text/event-stream');
        if (!response.ok || !isStream || !response.body) {
            await response.body?.cancel();
            return refusal(response);
        }
        // What happened before the stream was open is not among its events if the answer came in between.
        await look();
        const parser = new EventParser();
        const reader = response.body.pipeThrough(new TextDecoderStream(), { signal: silence.signal }).getReader();
        for (;;) {
            silence.restart();
            const { value, done } = await reader.read();
            if (done) {
                return { end: 'broken', wait };
            }
            const events = parser.push(value);
            wait = parser.retry || wait;
            const last = events.find(({ type }) => type === 'end');
            if (last) {
                const end = meaning(last);
                return { end, wait: end === 'busy' ? Math.max(wait, MIN_RETRY_MS) : wait };
            }
            if (events.length > 0) {
                await look();
            }
        }
    } catch {
        return { end: 'broken', wait };
    } finally {
        silence.end();
    }
}

/**
 * Returns what the last event of a stream means.
 * @param {StreamEvent} event
 * @returns {StreamEnd}
 */
function meaning({ data }) {
    if (data.includes('"unauthorized"') || data.includes('"gone"')) {
        return 'unauthorized';
    }
    return data.includes('"overload"') ? 'busy' : 'ended';
}

/**
 * Returns what a response means that is not a stream.
 * @param {Response} response
 * @returns {{ end: StreamEnd, wait: number }}
 */
function refusal(response) {
    const seconds = Number(response.headers.get('Retry-After') ?? 0);
    const wait = Math.min(Math.max(seconds * 1000 || 0, MIN_RETRY_MS), MAX_RETRY_MS);
    if (response.status === 401) {
        return { end: 'unauthorized', wait: RECONNECT_MS };
    }
    return { end: [429, 503].includes(response.status) ? 'busy' : 'missing', wait };
}

/** Aborts a connection on which nothing arrives, or whose listener ends. */
class Silence {
    #controller = new AbortController();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    #timer;

    /** @param {AbortSignal} outer */
    constructor(outer) {
        this.outer = outer;
        this.abort = () => this.#controller.abort();
        outer.addEventListener('abort', this.abort);
        this.signal = this.#controller.signal;
        this.restart();
    }

    restart() {
        clearTimeout(this.#timer);
        this.#timer = setTimeout(this.abort, SILENCE_MS);
    }

    end() {
        clearTimeout(this.#timer);
        this.outer.removeEventListener('abort', this.abort);
        this.abort();
    }
}

/**
 * Looks at intervals.
 * @param {Source} source
 * @param {number} duration in milliseconds
 * @param {AbortSignal} signal
 */
async function poll({ look }, duration, signal) {
    const end = performance.now() + duration;
    let polls = 0;
    while (!signal.aborted && performance.now() < end) {
        polls = (await look()) ? 0 : polls + 1;
        await pause(polls < SHORT_POLLS ? SHORT_POLL_MS : LONG_POLL_MS, signal);
    }
}

/**
 * Waits, at most until the signal is aborted.
 * @param {number} milliseconds
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
export function pause(milliseconds, signal) {
    return new Promise((resolve) => {
        if (signal.aborted) {
            resolve();
            return;
        }
        const done = () => {
            clearTimeout(timer);
            signal.removeEventListener('abort', done);
            resolve();
        };
        const timer = setTimeout(done, milliseconds);
        signal.addEventListener('abort', done);
    });
}
